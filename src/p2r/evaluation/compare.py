"""Do runs differ? The same samples are paired: exact tests, intervals of the difference, and a verdict in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p2r.answers import Scorer
from p2r.boxes.other_frame import explain_frame
from p2r.errors import StorageError, count_nouns
from p2r.evaluation.scorecard import explain_open, name_measure, score_columns
from p2r.evaluation.scoring import ScoredRow, ScoredRun, group_rows
from p2r.evaluation.tables import Table, show_interval, show_share
from p2r.statistics import (
    Difference,
    compare_pairs,
    correct_holm,
    find_detectable_difference,
    permute_clusters,
)
from p2r.types import Trace

ALPHA = 0.05
_NAMING = ("mode", "model", "perceiver_model", "prompts", "family", "frame", "max_pixels", "seed")


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two runs, compared on the samples of one column that are judged in both.

    column: the whole benchmark, or one of its categories.
    num_gained, num_lost: samples that only the second run, or only the first, has right.
    spread: how many questions have a difference of one, two or more samples; a question has several where they are
        rotations.
    p_value: McNemar's exact test, with the rotations of a question kept together.
    p_corrected: `p_value` after Holm's correction: of the whole over the pairs of runs, of a category over all pairs'
        categories.
    """

    first: str
    second: str
    column: str
    num_samples: int
    num_questions: int
    num_gained: int
    num_lost: int
    spread: Mapping[int, int]
    difference: Difference
    p_value: float
    p_corrected: float = 1.0

    @property
    def verdict(self) -> str:
        """A sentence that says which run is better and by how much, or that there is no evidence of a difference."""
        num_differ = self.num_gained + self.num_lost
        differ = f"{num_differ} of {self.num_samples} samples differ"
        if self.p_value >= ALPHA:
            return f"no evidence of a difference: {differ}, p {show_p(self.p_value)}"
        if self.p_corrected >= ALPHA:
            corrected = f"p {show_p(self.p_value)}, but {show_p(self.p_corrected)} after Holm's correction"
            return f"no evidence of a difference among so many comparisons: {differ}, {corrected}"
        better, worse = (self.second, self.first) if self.difference.mean > 0 else (self.first, self.second)
        low, high = sorted(
            math.copysign(100, self.difference.mean) * p for p in (self.difference.low, self.difference.high)
        )
        return (
            f"{better} is better than {worse} by {abs(100 * self.difference.mean):.1f} points "
            f"(95% interval {low:.1f} to {high:.1f}): {differ}"
        )


def compare_runs(
    runs: Sequence[ScoredRun], *, scorer: Scorer = "robust", names: Sequence[str] = ()
) -> tuple[list[Contrast], list[str]]:
    """Compare every later run with the first, in every column of the benchmark.

    Args:
        names: names of the runs; by default, the settings in which they differ.

    Returns:
        The contrasts, corrected for being several, and sentences about samples that were left out.

    Raises:
        StorageError: the runs are of different benchmarks, or no sample is judged in both.
    """
    names = names or name_runs(runs)
    first, notes = runs[0], list[str]()
    contrasts: list[Contrast] = []
    columns = group_rows(first, scorer)
    for run, name in zip(runs[1:], names[1:], strict=True):
        _check_pair(first, run)
        others = {row.facts.sample_id: row for row in run.judged(scorer)}
        shared = {row.facts.sample_id for row in first.judged(scorer)} & set(others)
        if not shared:
            raise StorageError(
                f"{first.place} and {run.place} share no judged sample",
                hint="compare runs of the same benchmark with the same limit and seed",
            )
        num_unpaired = len({*first.facts, *run.facts} - shared)
        if num_unpaired:
            left_out = count_nouns(num_unpaired, "sample is", "samples are")
            notes.append(f"{left_out} left out: not judged in both {names[0]} and {name}")
        for column, rows in columns.items():
            pairs = [(row, others[row.facts.sample_id]) for row in rows if row.facts.sample_id in shared]
            if pairs:
                contrasts.append(_contrast(names[0], name, column, pairs, scorer))
    return _correct(contrasts, whole=next(iter(columns))), notes


def _say_counts(num_draws: int, num_orders: int) -> str:
    return f"{count_nouns(num_draws, 'time')} in {count_nouns(num_orders, 'order')} of the options"


def _correct(contrasts: Sequence[Contrast], whole: str) -> list[Contrast]:
    """Correct the p-values of the whole, which is what was asked, and those of its categories as a second family."""
    corrected = list(contrasts)
    for family in (True, False):
        places = [k for k, contrast in enumerate(contrasts) if (contrast.column == whole) is family]
        values = correct_holm([contrasts[k].p_value for k in places])
        for k, value in zip(places, values, strict=True):
            corrected[k] = replace(contrasts[k], p_corrected=value)
    return corrected


def tabulate_runs(runs: Sequence[ScoredRun], *, scorer: Scorer = "robust", names: Sequence[str] = ()) -> Table:
    """A row for each run of one benchmark: the whole with n, chance and interval, then the other columns' scores."""
    names = names or name_runs(runs)
    scored = [score_columns(run, scorer) for run in runs]
    others = list(dict.fromkeys(name for columns in scored for name in list(columns)[1:]))
    body: list[tuple[str, ...]] = []
    for name, columns in zip(names, scored, strict=True):
        whole = next(iter(columns.values()))
        cells = [name, str(len(whole.rows)), show_share(whole.chance), show_share(whole.score)]
        cells.append(show_interval(whole.interval))
        body.append((*cells, *(show_share(columns[other].score if other in columns else None) for other in others)))
    notes = [
        (name, note)
        for name, run in zip(names, runs, strict=True)
        for note in (explain_open(run, scorer), explain_frame(run.traces.values()))
    ]
    return Table(
        title=f"{name_measure(runs[0])}: {runs[0].settings.benchmark} ({scorer})",
        columns=("run", "n", "chance", "accuracy", "95% interval", *others),
        rows=tuple(body),
        notes=tuple(f"{name}: {note}" for name, note in notes if note),
    )


def tabulate_contrasts(contrasts: Sequence[Contrast], notes: Sequence[str] = ()) -> Table:
    """The paired differences, a row for each contrast."""
    rows = tuple(
        (
            f"{c.second} - {c.first}",
            c.column,
            str(c.num_samples),
            str(c.num_gained),
            str(c.num_lost),
            f"{100 * c.difference.mean:+.1f}",
            f"{100 * c.difference.low:+.1f} to {100 * c.difference.high:+.1f}",
            show_p(c.p_value),
            show_p(c.p_corrected),
        )
        for c in contrasts
    )
    return Table(
        title="Paired differences, in points",
        columns=("second - first", "column", "n", "gained", "lost", "difference", "95% interval", "p", "Holm"),
        rows=rows,
        notes=(
            "gained, lost: samples that only the second run, or only the first, has right. Interval: Tango's, for "
            "paired shares. p: McNemar's exact test, with the rotations of a question kept together. Holm: p after "
            "correction; of the whole over the pairs of runs, of the categories as a second family.",
            *_explain_power(contrasts),
            *(f"{note}." for note in notes),
        ),
    )


def name_runs(runs: Sequence[ScoredRun]) -> list[str]:
    """Names that tell runs of one benchmark apart: the settings in which they differ, else the mode; if these are not
    enough, their folders."""
    settings = [run.settings.model_dump() for run in runs]
    differing = [key for key in _NAMING if len({each[key] for each in settings}) > 1] or ["mode"]
    names = [
        " ".join(str(each[key]) for key in differing if each[key] is not None) or f"{differing[0]} not set"
        for each in settings
    ]
    keys = {(run.settings.benchmark, name) for run, name in zip(runs, names, strict=True)}
    return names if len(keys) == len(runs) else [run.place for run in runs]


def _contrast(
    first: str, second: str, column: str, pairs: Sequence[tuple[ScoredRow, ScoredRow]], scorer: Scorer
) -> Contrast:
    before = [row.score(scorer) for row, _ in pairs]
    after = [row.score(scorer) for _, row in pairs]
    sums: dict[str, int] = {}
    for (row, _), b, a in zip(pairs, before, after, strict=True):
        name = row.cluster or f"\0{row.facts.sample_id}"
        sums[name] = sums.get(name, 0) + int(a - b)
    num_gained = sum(b < a for b, a in zip(before, after, strict=True))
    num_lost = sum(b > a for b, a in zip(before, after, strict=True))
    return Contrast(
        first=first,
        second=second,
        column=column,
        num_samples=len(pairs),
        num_questions=len(sums),
        num_gained=num_gained,
        num_lost=num_lost,
        spread=Counter(abs(value) for value in sums.values() if value),
        difference=compare_pairs(before, after, [row.cluster for row, _ in pairs]),
        p_value=permute_clusters(list(sums.values())),
    )


def _check_pair(first: ScoredRun, second: ScoredRun) -> None:
    """Raise StorageError for runs of different benchmarks or questions."""
    a, b = first.settings, second.settings
    if a.benchmark != b.benchmark:
        raise StorageError(
            f"{first.place} is a run of {a.benchmark}, and {second.place} is a run of {b.benchmark}",
            hint="compare runs of the same benchmark",
        )
    counts = [(settings.samples or 1, settings.shuffles or 1) for settings in (a, b)]
    if counts[0] != counts[1]:
        raise StorageError(
            f"{first.place} asked each question {_say_counts(*counts[0])}, "
            f"and {second.place} {_say_counts(*counts[1])}",
            hint="compare runs that ask each question as often, in as many orders",
        )
    texts: Mapping[str, str] = {id: trace.question for id, trace in first.traces.items()}
    asked_else = [id for id, trace in second.traces.items() if texts.get(id, trace.question) != trace.question]
    if asked_else and "shuffled" not in (a.mode, b.mode):
        raise StorageError(
            f"the same ids stand for other questions in {first.place} and {second.place}: "
            f"{count_nouns(len(asked_else), 'sample')}, the first {asked_else[0]!r}",
            hint="compare runs of the same data, and of needles with the same seed",
        )


def asks_same_data(first: ScoredRun, second: ScoredRun) -> bool:
    """Tell whether two runs are of one benchmark and the same data, or parts of them.

    Where the fingerprints differ, as those of needles do with `limit`, all questions of the same id must be the same.
    """
    a, b = first.settings, second.settings
    if a.benchmark != b.benchmark or a.benchmark_fingerprint == b.benchmark_fingerprint:
        return a.benchmark == b.benchmark
    shared = first.traces.keys() & second.traces.keys()
    return bool(shared) and all(_what_is_asked(first.traces[id]) == _what_is_asked(second.traces[id]) for id in shared)


def _what_is_asked(trace: Trace) -> tuple[object, ...]:
    """Return what one sample has in every mode: "shuffled" changes the order of the options, and so the letter."""
    return Path(trace.image).name, trace.question, sorted(trace.options), None if trace.options else trace.target


def _explain_power(contrasts: Sequence[Contrast]) -> list[str]:
    """A sentence: how large a difference of the whole the first pair shows, by the test that its verdict uses."""
    if not contrasts:
        return []
    first = contrasts[0]
    num_pairs = sum(contrast.column == first.column for contrast in contrasts)
    shares = {size: num / first.num_questions for size, num in first.spread.items()}
    least = find_detectable_difference(shares, first.num_questions, first.num_samples, alpha=ALPHA / num_pairs)
    pairs = "such a pair" if num_pairs == 1 else f"each of {num_pairs} such pairs"
    if least is None:
        return [f"Too few questions differ for {pairs} to show any difference in {first.column} at 80% power."]
    return [f"Smallest difference in {first.column} that {pairs} shows at 80% power: {100 * least:.1f} points."]


def show_p(p_value: float) -> str:
    return "<0.0001" if p_value < 0.0001 else f"{p_value:.4f}"
