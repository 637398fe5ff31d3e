"""All tables of a study, in the order of its page."""

from __future__ import annotations

from collections.abc import Sequence

from p2r.evaluation.tables import Table
from p2r.studies.changes import tabulate_gains, tabulate_trend
from p2r.studies.costs import measure_costs, tabulate_answers, tabulate_costs
from p2r.studies.measure import Reader
from p2r.studies.splits import tabulate_splits
from p2r.studies.study import Study
from p2r.studies.tables import list_cell_tables, tabulate_claims, tabulate_objections, tabulate_paper
from p2r.studies.verdicts import JudgedClaim
from p2r.studies.weights import tabulate_weights


def list_tables(study: Study, reader: Reader, judged: Sequence[JudgedClaim]) -> list[Table]:
    """Every table of a study, the claims first."""
    return [
        *([tabulate_claims(judged)] if judged else []),
        *([tabulate_objections(study, judged)] if study.objections else []),
        *list_result_tables(study, reader),
        *(tabulate_answers(chart, reader) for chart in study.costs),
        tabulate_costs(measure_costs(study)),
        tabulate_splits(study),
        tabulate_weights(study),
    ]


def list_result_tables(study: Study, reader: Reader) -> list[Table]:
    """List what was found beside the claims: means, parts of gains, and slopes, with the paper's numbers."""
    tables = list_cell_tables(study, reader)
    tables += [tabulate_gains(each, reader) for each in study.gains]
    for trend in study.trends:
        tables += [tabulate_trend(trend, reader), *tabulate_paper(trend.title, trend.paper)]
    return tables
