"""How hard rows are: the schema of what pre-rollouts measure, the kinds of rows by right answers, and their histogram.

`p2r sample` and the phases of a training run write the same folder:

run.json          the settings of the measurement: `SampleSettings`, or `PreRolloutSettings` in a training run
rows.jsonl        a `RowDifficulty` per line
histogram.txt     how many rows were right in 0, 1, 2, ... rollouts

and, where rows are kept by right answers, the rows of each kind: easy.jsonl, medium.jsonl, hard.jsonl, unjudged.jsonl.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import ConfigDict

from p2r.types import Frame, Frozen

Kind = Literal["easy", "medium", "hard", "unjudged"]
KINDS: tuple[Kind, ...] = get_args(Kind)

DIFFICULTY_FILE = "rows.jsonl"
HISTOGRAM_FILE = "histogram.txt"
CHUNK = 64
"""Rows that are measured and written together."""
MOST_LINES = 10
"""Lines that say how far a measurement has come."""
BAR_WIDTH = 40
"""Characters of the longest bar."""


class SampleSettings(Frozen):
    """run.json of `p2r sample`: everything that can change what is found.

    model_weights, prompt_fingerprint, benchmark_fingerprint: hashes of the weights, the wordings, and the rows.
    judge_model: the address of the model that judges free answers; None where their words do.
    """

    rows: str
    benchmark_fingerprint: str
    num_rows: int
    model: str
    model_weights: str
    dtype: str | None
    frame: Frame | None
    max_pixels: int | None
    role: str
    prompts: str
    prompt_fingerprint: str
    num_rollouts: int
    temperature: float
    top_p: float
    max_new_tokens: int
    judge_model: str | None
    seed: int


class RowDifficulty(Frozen):
    """The difficulty of one row, as pre-rollouts found it.

    num_judged: rollouts with a reward. mean: of these rewards; None when none was judged. variance: None when fewer
        than two were.
    num_rollouts: its rollouts; 0 when its image, evidence or prompt failed. num_right, num_wrong: those whose answer
        was judged right, or wrong; the others failed. failure: why most of those did; "" without any. Older versions
        did not write these four.
    """

    model_config = ConfigDict(extra="ignore")

    id: str
    num_judged: int
    mean: float | None
    variance: float | None
    num_rollouts: int = 0
    num_right: int = 0
    num_wrong: int = 0
    failure: str = ""

    @property
    def is_alive(self) -> bool:
        """True unless all its rewards were alike. A row that could not be judged may be alive."""
        return self.variance is None or self.variance > 0.0

    @property
    def kind(self) -> Kind:
        """Easy: right in all rollouts. Hard: in none. Medium: in some. Unjudged: rollouts failed, so nobody can tell.

        A failed rollout is neither right nor wrong. With one right and one wrong beside it, the row is medium anyway.
        """
        if self.num_right and self.num_wrong:
            return "medium"
        if self.num_right + self.num_wrong < max(self.num_rollouts, 1):
            return "unjudged"
        return "easy" if self.num_right else "hard"


def is_told(done: int, total: int) -> bool:
    """Tell whether it is worth a line that so many rows are measured."""
    return done == total or done // CHUNK % math.ceil(total / CHUNK / MOST_LINES) == 0


def is_measurement(folder: Path) -> bool:
    """Tell whether a folder holds a measurement; that is not a run."""
    return (folder / DIFFICULTY_FILE).exists()


def count_kinds(rows: Sequence[RowDifficulty]) -> dict[Kind, int]:
    """Count the rows of each kind."""
    found = Counter[Kind](row.kind for row in rows)
    return {kind: found[kind] for kind in KINDS}


def describe_kinds(counts: Mapping[Kind, int]) -> str:
    """Write counts, such as "120 easy, 310 medium, 70 hard"; unjudged rows only where there are some."""
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in KINDS if kind != "unjudged" or counts[kind])


def count_right(rows: Sequence[RowDifficulty], num_rollouts: int) -> list[int]:
    """Count the rows that were right in 0, 1, 2, ... rollouts, without those that could not be judged."""
    found = Counter(row.num_right for row in rows if row.kind != "unjudged")
    return [found[num_right] for num_right in range(num_rollouts + 1)]


def list_bars(rows: Sequence[RowDifficulty], num_rollouts: int) -> list[tuple[str, int]]:
    """Return the bars of the histogram: in how many rollouts rows were right, and how many rows."""
    bars = [(str(number), count) for number, count in enumerate(count_right(rows, num_rollouts))]
    if num_unjudged := count_kinds(rows)["unjudged"]:
        bars.append(("unjudged", num_unjudged))
    return bars


def draw_histogram(rows: Sequence[RowDifficulty], num_rollouts: int) -> Iterator[str]:
    """Draw how many rows were right in how many rollouts, line by line: a number, its share of all rows, and a bar."""
    bars = list_bars(rows, num_rollouts)
    head = f"right of {num_rollouts}"
    largest = max(count for _, count in bars)
    widths = max(len(head), *(len(name) for name, _ in bars)), max(len("rows"), len(f"{largest:,}"))
    yield f"{head:>{widths[0]}}  {'rows':>{widths[1]}}   share"
    for name, count in bars:
        # A few rows among many still have a bar.
        bar = "#" * max(round(BAR_WIDTH * count / largest) if largest else 0, int(count > 0))
        line = f"{name:>{widths[0]}}  {count:>{widths[1]},}  {count / max(len(rows), 1):>6.1%}  {bar}"
        yield line.rstrip()
