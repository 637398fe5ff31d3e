"""Stored replies, read and judged again by every scorer, without asking anything.

`robust` is the careful reader; `release` reads letters as the authors' evaluation does, the others as the scripts of
some benchmarks do. A sample without a reply has no score: it failed, and is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2r.answers import OWN_SCORERS, PEER_SCORERS, Scorer, extract_answer, read_release
from p2r.benchmarks.base import ScoredBy
from p2r.dialogue import Model
from p2r.errors import JudgeError
from p2r.evaluation.aggregate import Scored, group_columns
from p2r.judges import BoxJudge, RuleJudge, TextJudge, judge_for, rule_for
from p2r.modes import UNTAGGED
from p2r.pipeline import NOTHING_SAID
from p2r.prompts import PromptSet
from p2r.runs.evaluation import Run, RunSettings, SampleFacts, read_run, to_sample
from p2r.statistics import Interval, bound_mean, mean_of
from p2r.types import Answer, Judge, Sample, Trace, Verdict


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One sample with what every scorer made of its reply. A verdict is missing where nothing can be judged."""

    facts: SampleFacts
    trace: Trace
    answers: Mapping[Scorer, Answer] = field(default_factory=dict[Scorer, Answer])
    verdicts: Mapping[Scorer, Verdict] = field(default_factory=dict[Scorer, Verdict])

    @property
    def cluster(self) -> str:
        return self.facts.cluster

    def score(self, scorer: Scorer) -> float:
        """1 for a right answer, 0 for a wrong one."""
        return float(self.verdicts[scorer].correct)


@dataclass(frozen=True, slots=True, repr=False)
class ScoredRun(Run):
    """A run that was read and judged.

    scorers: those that apply to its benchmark, the default first.
    peers: those by which other systems read it.
    rows: every sample that was asked, in the order of the benchmark.
    """

    scorers: tuple[Scorer, ...] = ("robust",)
    peers: tuple[Scorer, ...] = ()
    rows: tuple[ScoredRow, ...] = ()

    def judged(self, scorer: Scorer) -> list[ScoredRow]:
        """The samples with a verdict by this scorer."""
        return [row for row in self.rows if scorer in row.verdicts]

    @property
    def accuracy(self) -> float | None:
        """The accuracy by the benchmark's aggregation and the default scorer, 0 to 1; None when nothing was judged."""
        from p2r.evaluation.scorecard import score_columns

        return next(iter(score_columns(self, self.scorers[0]).values())).score

    def scorecard(self) -> str:
        """All tables of the run as Markdown, as `p2r score --markdown` prints them."""
        from p2r.evaluation.scorecard import make_scorecard
        from p2r.evaluation.tables import write_markdown

        return write_markdown(make_scorecard(self))

    def __repr__(self) -> str:
        accuracy = "not judged" if self.accuracy is None else f"{self.accuracy:.1%} right"
        return f"<{self.describe()}; {accuracy} of {len(self.judged(self.scorers[0]))}>"


def score_run(run: Run | str | Path) -> ScoredRun:
    """Read and judge every reply of a run, by every scorer that applies to its benchmark.

    Args:
        run: a run, or its folder.

    Raises:
        StorageError: the folder holds no evaluation, or a broken line.
    """
    if not isinstance(run, Run):
        run = read_run(run)
    scorers = find_scorers(run.settings)
    peers = PEER_SCORERS.get(run.settings.benchmark, ())
    rows = tuple(
        score_trace(run.traces[id], facts, run.settings, (*scorers, *peers))
        for id, facts in run.facts.items()
        if id in run.traces
    )
    return ScoredRun(
        run.settings,
        run.facts,
        run.traces,
        run.folder,
        run.sessions,
        run.origin,
        scorers=scorers,
        peers=peers,
        rows=rows,
    )


def find_scorers(settings: RunSettings) -> tuple[Scorer, ...]:
    """Boxes are judged in one way only; some benchmarks have scripts of their own."""
    if settings.scored_by == "box":
        return ("robust",)
    own: tuple[Scorer, ...] = ("mme_official",) if settings.aggregation == "mme" else ()
    return ("robust", "release", *own, *OWN_SCORERS.get(settings.benchmark, ()))


def score_trace(
    trace: Trace, facts: SampleFacts, settings: RunSettings, scorers: Sequence[Scorer] = ("robust",)
) -> ScoredRow:
    """Read and judge one reply."""
    answers: dict[Scorer, Answer] = {}
    verdicts: dict[Scorer, Verdict] = {}
    by_box = settings.scored_by == "box"
    if trace.failure is not None or (trace.reasoning is None and not by_box):
        return ScoredRow(facts, trace)
    sample = to_sample(trace, facts)
    for scorer in scorers:
        if trace.reasoning is not None:
            answers[scorer] = read_answer(trace, scorer, letters=settings.letters, tagged=settings.mode not in UNTAGGED)
        try:
            verdict = _judge(sample, trace, answers.get(scorer, NOTHING_SAID), settings)
        except JudgeError:
            continue
        if verdict is not None:
            verdicts[scorer] = verdict
    return ScoredRow(facts, trace, answers, verdicts)


def read_answer(trace: Trace, scorer: Scorer, *, letters: str, tagged: bool) -> Answer:
    """The answer in a trace's reply.

    Args:
        letters: those that the authors' release counts for this benchmark.
        tagged: the mode asks for answer tags; without, the release reads the whole reply.
    """
    text = trace.reasoning.text if trace.reasoning else ""
    if scorer == "release":
        return read_release(text, tagged=tagged, letters=letters if trace.answer_form == "choice" else "")
    finish = trace.reasoning.finish_reason if trace.reasoning else "stop"
    return extract_answer(text, trace.answer_form, trace.options, scorer=scorer, finish_reason=finish)


def choose_judge(
    sample: Sample, scored_by: ScoredBy, model: Model | None = None, prompts: PromptSet | None = None
) -> Judge | None:
    """The judge of a sample while it is asked; None for one that states neither the right answer nor the evidence.

    Args:
        model, prompts: judges free answers whose words are not the target's, asked in this wording.
    """
    rule = _choose_rule(sample, scored_by)
    return judge_for(sample, model, prompts) if rule is not None and scored_by == "answer" else rule


def group_rows(run: ScoredRun, scorer: Scorer) -> dict[str, list[ScoredRow]]:
    """The judged rows of each of the benchmark's columns, the whole first."""
    return group_columns(run.judged(scorer), lambda row: row.facts.category, run.settings.aggregation)


def to_scored(row: ScoredRow, scorer: Scorer) -> Scored:
    """Return what aggregation needs to know about a row."""
    return Scored(row.score(scorer), row.facts.cluster, row.facts.cycle)


def interval_of(rows: Sequence[ScoredRow], scorer: Scorer) -> Interval:
    """95% interval of the share of right answers."""
    return interval_of_values([row.score(scorer) for row in rows], rows)


def interval_of_values(values: Sequence[float], rows: Sequence[ScoredRow]) -> Interval:
    """95% interval of the mean of one value per row, 0 to 1; see `bound_mean`."""
    return bound_mean(values, [row.cluster or f"\0{row.facts.sample_id}" for row in rows])


def has_clusters(rows: Sequence[ScoredRow]) -> bool:
    """Tell whether some samples ask the same thing."""
    names = [row.cluster for row in rows if row.cluster]
    return len(set(names)) < len(names)


def chance_of(rows: Sequence[ScoredRow]) -> float | None:
    """Mean accuracy of guessing; None unless every sample states its own."""
    chances = [row.facts.chance for row in rows if row.facts.chance is not None]
    return mean_of(chances) if len(chances) == len(rows) else None


def _choose_rule(sample: Sample, scored_by: ScoredBy) -> RuleJudge | None:
    if scored_by == "box":
        return BoxJudge() if sample.gold_boxes else None
    return rule_for(sample) if sample.target is not None else None


def _judge(sample: Sample, trace: Trace, answer: Answer, settings: RunSettings) -> Verdict | None:
    """The verdict on one reading of a reply, None where nothing says what is right. A judging model is not asked again.

    Raises:
        JudgeError: the target is not usable, or the judging model was asked about another reading than `answer`.
    """
    if settings.judge_model and settings.scored_by == "answer" and trace.answer_form == "free_form" and trace.target:
        by_words = TextJudge().compare(sample, answer, trace.boxes)
        if by_words.correct or answer.text is None:
            return by_words
        if trace.answer is None or trace.answer.text != answer.text or trace.verdict is None:
            raise JudgeError(
                f"the judging model was not asked about {answer.text!r} of sample {sample.id!r}",
                hint="it judged the robust reading; ask the model again in another folder",
            )
        return trace.verdict
    rule = _choose_rule(sample, settings.scored_by)
    return None if rule is None else rule.compare(sample, answer, trace.boxes)
