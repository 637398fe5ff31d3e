"""All tables of a study, in the order of its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2r.evaluation.tables import Table
from p2r.studies.changes import tabulate_gains, tabulate_trend
from p2r.studies.costs import measure_costs, tabulate_answers, tabulate_costs
from p2r.studies.measure import Reader
from p2r.studies.splits import tabulate_splits
from p2r.studies.study import Study
from p2r.studies.tables import tabulate_cells, tabulate_claims, tabulate_objections, tabulate_paper
from p2r.studies.verdicts import JudgedClaim
from p2r.studies.weights import tabulate_weights


@dataclass(frozen=True, slots=True)
class StudyTables:
    """All tables of a study. results: means, parts of gains, and slopes, each with the paper's where it has one."""

    claims: Sequence[Table]
    objections: Sequence[Table]
    results: Sequence[Sequence[Table]]
    answers: Sequence[Table]
    training: Table
    splits: Table
    weights: Table

    def list_all(self) -> list[Table]:
        """Every table, the claims first."""
        parts = (self.claims, self.objections, *self.results, self.answers)
        return [*(table for part in parts for table in part), self.training, self.splits, self.weights]


def tabulate_study(study: Study, reader: Reader, judged: Sequence[JudgedClaim]) -> StudyTables:
    """Make every table of a study, of what is there so far."""
    results = [[tabulate_cells(each, reader), *tabulate_paper(each.title, each.paper)] for each in study.tables]
    results += [[tabulate_gains(each, reader)] for each in study.gains]
    results += [[tabulate_trend(each, reader), *tabulate_paper(each.title, each.paper)] for each in study.trends]
    return StudyTables(
        claims=[tabulate_claims(judged)] if judged else [],
        objections=[tabulate_objections(study, judged)] if study.objections else [],
        results=results,
        answers=[tabulate_answers(chart, reader) for chart in study.costs],
        training=tabulate_costs(measure_costs(study, reader)),
        splits=tabulate_splits(study),
        weights=tabulate_weights(study, reader),
    )
