"""Stored replies, read and judged again by every scorer, without asking anything.

`robust` is the careful reader; `release` reads letters as the authors' evaluation does, `mme_official` as
MME-RealWorld's own script. A sample without a reply has no score: it failed, and is neither right nor wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from p2r.answers import Scorer, extract_answer, read_release
from p2r.errors import JudgeError
from p2r.evaluation.aggregate import Scored
from p2r.evaluation.evaluate import choose_judge
from p2r.judges import TextJudge
from p2r.modes import UNTAGGED
from p2r.pipeline import NOTHING_SAID
from p2r.runs.evaluation import SampleFacts, StoredRun, to_sample
from p2r.statistics import Interval, bound_mean, mean_of
from p2r.types import Answer, Box, Sample, Trace, Verdict


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One sample with what every scorer made of its reply. Verdicts are missing where nothing can be judged."""

    facts: SampleFacts
    trace: Trace
    answers: Mapping[Scorer, Answer] = field(default_factory=dict[Scorer, Answer])
    verdicts: Mapping[Scorer, Verdict] = field(default_factory=dict[Scorer, Verdict])

    @property
    def cluster(self) -> str:
        return self.facts.cluster


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run with scores. `scorers`: those that apply, the default first. `rows`: every sample that was asked."""

    run: StoredRun
    scorers: tuple[Scorer, ...]
    rows: tuple[ScoredRow, ...]

    def judged(self, scorer: Scorer) -> list[ScoredRow]:
        return [row for row in self.rows if scorer in row.verdicts]


@dataclass(frozen=True, slots=True)
class StoredJudge:
    """What a judging model said during the run about the answer in `trace`; it is not asked again."""

    trace: Trace

    async def __call__(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Raises JudgeError when the model was asked about another reading of the reply than `answer`."""
        by_words = await TextJudge()(sample, answer, boxes)
        if by_words.correct or answer.text is None:
            return by_words
        asked = self.trace.answer
        if asked is None or asked.text != answer.text or self.trace.verdict is None:
            raise JudgeError(
                f"the judging model was not asked about {answer.text!r} of sample {sample.id!r}",
                hint="it judged the robust reading; ask the model again in another folder",
            )
        return self.trace.verdict


def score_run(run: StoredRun) -> ScoredRun:
    """Read and judge every reply of a run, by every scorer that applies to its benchmark."""
    scorers = find_scorers(run)
    return ScoredRun(run, scorers, asyncio.run(_score_rows(run, scorers)))


def find_scorers(run: StoredRun) -> tuple[Scorer, ...]:
    """Boxes are judged in one way only; MME-RealWorld has a script of its own."""
    if run.settings.get("scored_by") == "box":
        return ("robust",)
    if str(run.settings.get("benchmark", "")).startswith("mme_realworld"):
        return ("robust", "release", "mme_official")
    return ("robust", "release")


def read_answer(trace: Trace, scorer: Scorer, *, letters: str, tagged: bool) -> Answer:
    """The answer in a trace's reply.

    Args:
        letters: those that the authors' release counts for this benchmark.
        tagged: the mode asks for answer tags; without, the release reads the whole reply.
    """
    text = trace.reasoning.text if trace.reasoning else ""
    if scorer == "release":
        return read_release(text, tagged=tagged, letters=letters if trace.answer_form == "choice" else "")
    return extract_answer(text, trace.answer_form, trace.options, scorer=scorer)


def interval_of(rows: Sequence[ScoredRow], scorer: Scorer) -> Interval:
    """95%, of the share of right answers."""
    return interval_of_values([float(row.verdicts[scorer].correct) for row in rows], rows)


def interval_of_values(values: Sequence[float], rows: Sequence[ScoredRow]) -> Interval:
    """95%, of the mean of a figure of each row, 0 to 1; see `bound_mean`."""
    return bound_mean(values, [row.cluster or f"\0{row.facts.sample_id}" for row in rows])


def has_clusters(rows: Sequence[ScoredRow]) -> bool:
    names = [row.cluster for row in rows if row.cluster]
    return len(set(names)) < len(names)


def to_scored(row: ScoredRow, scorer: Scorer) -> Scored:
    return Scored(
        category=row.facts.category,
        score=float(row.verdicts[scorer].correct),
        cluster=row.facts.cluster,
        cycle=row.facts.cycle,
        num_boxes=len(row.trace.boxes) if row.trace.perception else None,
    )


def chance_of(rows: Sequence[ScoredRow]) -> float | None:
    """Mean accuracy of guessing; None unless every sample states its own."""
    chances = [row.facts.chance for row in rows if row.facts.chance is not None]
    return mean_of(chances) if len(chances) == len(rows) else None


def share_of(percent: float | None) -> float | None:
    """0 to 1."""
    return None if percent is None else percent / 100


async def _score_rows(run: StoredRun, scorers: tuple[Scorer, ...]) -> tuple[ScoredRow, ...]:
    letters, tagged = str(run.settings.get("letters") or "ABCD"), run.settings.get("mode") not in UNTAGGED
    by_box = run.settings.get("scored_by") == "box"
    rows: list[ScoredRow] = []
    for id, facts in run.facts.items():
        trace = run.traces.get(id)
        if trace is None:
            continue
        answers: dict[Scorer, Answer] = {}
        verdicts: dict[Scorer, Verdict] = {}
        sample = to_sample(trace, facts)
        judge = choose_judge(sample, "box" if by_box else "answer")
        if judge is not None and run.settings.get("judge_model") and trace.answer_form == "free_form":
            judge = StoredJudge(trace)
        for scorer in scorers if trace.failure is None and (by_box or trace.reasoning is not None) else ():
            if trace.reasoning is not None:
                answers[scorer] = read_answer(trace, scorer, letters=letters, tagged=tagged)
            if judge is not None:
                try:
                    verdicts[scorer] = await judge(sample, answers.get(scorer, NOTHING_SAID), trace.boxes)
                except JudgeError:
                    continue
        rows.append(ScoredRow(facts, trace, answers, verdicts))
    return tuple(rows)
