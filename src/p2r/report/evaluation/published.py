"""What the paper and other systems' repositories print, and which of these values cannot be right or compared.

All these values are in `published.json`: Tables 1 to 5 of the paper, and READMEs, whose numbers may be means of several
sampled replies. A slip is noted wherever arithmetic shows one: a score that is not a multiple of one sample, an overall
score that is not the mean of its halves; and where the right option always was the first. The intervals are computed
here from the printed share and the size of the benchmark; there is none where the rotations of a question are not
independent, or a score is not one reply to each question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from p2r.answers import Scorer
from p2r.benchmarks import hrbench
from p2r.benchmarks.load import PUBLISHED
from p2r.benchmarks.reasonseg import SPLITS
from p2r.evaluation.scorecard import score_columns
from p2r.evaluation.scoring import ScoredRun
from p2r.evaluation.tables import MISSING, Table, show_interval, show_share
from p2r.modes import CHATS
from p2r.statistics import wilson
from p2r.types import Frozen

PUBLISHED_FILE = Path(__file__).parent / "published.json"
NUM_SAMPLES: Mapping[str, int | None] = {facts.name: facts.num_samples for facts in PUBLISHED}
_WITH_ROTATIONS = (hrbench.FACTS_4K.name, hrbench.FACTS_8K.name)


class PublishedRow(Frozen):
    """One row of a table of the paper, or of a README, on one benchmark.

    table: where it is printed, such as "Table 1" or "README of Mini-o3".
    values: per cent, by the benchmark's columns; the overall score first.
    slips: column -> why its value cannot be right, or cannot be compared.
    """

    table: str
    method: str
    benchmark: str
    values: Mapping[str, float]
    slips: Mapping[str, str] = {}

    @property
    def is_from_paper(self) -> bool:
        """Tell whether it is one of the paper's, which count one reply to each question."""
        return self.table.startswith("Table ")


class Published(Frozen):
    """The contents of `published.json`."""

    paper: str
    rows: tuple[PublishedRow, ...]


def choose_scorer(run: ScoredRun) -> Scorer:
    """Return the scorer that published numbers are compared by: `release`, as in the paper.

    Other systems' dialects answer in forms that it does not read, and are read by the default scorer.
    """
    is_own = run.settings.mode not in CHATS or run.settings.mode == "tools"
    return "release" if is_own and "release" in run.scorers else run.scorers[0]


def read_published() -> Published:
    """Read every published row."""
    return TypeAdapter(Published).validate_json(PUBLISHED_FILE.read_text(encoding="utf-8"))


def tabulate_beside_paper(runs: Sequence[ScoredRun], names: Sequence[str]) -> Table | None:
    """Runs of one benchmark above the published rows about it; None if there is none. See `choose_scorer`."""
    published = read_published()
    rows = [row for row in published.rows if row.benchmark == runs[0].settings.benchmark]
    if not rows:
        return None
    columns = list(max((row.values for row in rows), key=len))
    body: list[tuple[str, ...]] = []
    for run, name in zip(runs, names, strict=True):
        scored = score_columns(run, choose_scorer(run))
        whole = next(iter(scored.values()))
        cells = [show_share(scored[column].score if column in scored else None) for column in columns]
        body.append((name, "here", str(len(whole.rows)), cells[0], show_interval(whole.interval), *cells[1:]))
    notes: list[str] = []
    for row in rows:
        notes += explain_slips(row)
        num = SPLITS.get(row.method.split(", ")[-1]) or NUM_SAMPLES.get(row.benchmark)
        cells = [_show_value(row, column) for column in columns]
        body.append(
            (row.method, row.table, MISSING if num is None else str(num), cells[0], _bound(row, num), *cells[1:])
        )
    return Table(
        title=f"Beside published numbers: {runs[0].settings.benchmark}",
        columns=("", "from", "n", columns[0], "95% interval", *columns[1:]),
        rows=tuple(body),
        notes=(
            f"Tables: {published.paper}, which gives no n and no interval: n is the size of the benchmark, and the "
            "interval is Wilson's for that share of it, where samples are independent. Our own replies are read as "
            "the authors' release reads them, and those in another system's dialect by the default scorer.",
            *notes,
        ),
    )


def explain_slips(row: PublishedRow) -> list[str]:
    """Return a sentence for each reason, with the columns that it is about."""
    columns = {reason: [name for name in row.slips if row.slips[name] == reason] for reason in row.slips.values()}
    return [f"* {row.table}, {row.method}, {', '.join(names)}: {reason}." for reason, names in columns.items()]


def _show_value(row: PublishedRow, column: str) -> str:
    value = row.values.get(column)
    return MISSING if value is None else f"{value:.1f}%{'*' if column in row.slips else ''}"


def _bound(row: PublishedRow, num: int | None) -> str:
    if num is None or row.benchmark in _WITH_ROTATIONS or not row.is_from_paper:
        return MISSING
    return show_interval(wilson(round(num * next(iter(row.values.values())) / 100), num))
