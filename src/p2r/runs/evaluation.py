"""A run: its settings, its traces, and what scoring needs to know about its samples.

`samples.jsonl` lies beside the traces, so that a run is scored, compared and merged without the benchmark's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydantic import Field, JsonValue, ValidationError

from p2r.benchmarks.base import Aggregation, Origin, ScoredBy
from p2r.errors import ImageError, StorageError, explain_fault
from p2r.files import read_lines, write_lines
from p2r.models.profiles import FamilyName
from p2r.modes import Mode
from p2r.runs.clock import Session, read_sessions
from p2r.runs.origin import read_origin
from p2r.runs.store import TRACES_FILE, read_settings, read_traces
from p2r.types import Box, Failure, Frame, Frozen, Sample, Trace
from p2r.walks import Sharing

SAMPLES_FILE = "samples.jsonl"


class RunSettings(Frozen):
    """run.json of an evaluation: everything that can change a result.

    benchmark, benchmark_fingerprint: its name, and a hash of all that is asked.
    scored_by, letters, aggregation: from the benchmark's facts; see `Facts`.
    model, perceiver_model, judge_model: as they were named; None for a model that had nothing to do.
    prompts, prompt_fingerprint: the wording's name, and a hash of its texts.
    roles: a hash of both roles; see `hash_roles`.
    profile, perceiver_profile: what the models behind servers are, as far as it was stated.
    family, frame: of the model that writes boxes, as far as they were stated.
    max_pixels: most pixels of an image or crop; None for each model's own.
    perceiver_new_tokens, reasoner_new_tokens: most tokens of a reply of each role; None for the usual ones.
    engine_args: arguments of vLLM's engine, where it ran the model that answers.
    limit: at most this many samples were drawn by `seed`.
    samples, shuffles: draws of the reply and orders of the options of each question; None for one.
    temperature: at which replies were drawn; None for greedy ones, or a dialect's own.
    shard: "i/n" for a part of the samples; the parts joined by "+" in a merged run that lacks some.
    share_perception: which samples share one look; None where that changes nothing.
    """

    benchmark: str = ""
    benchmark_fingerprint: str = ""
    scored_by: ScoredBy = "answer"
    letters: str = "ABCD"
    aggregation: Aggregation = Field(default_factory=lambda known: find_aggregation(known.get("benchmark", "")))
    mode: Mode = "p2r"
    model: str = ""
    perceiver_model: str | None = None
    prompts: str | None = None
    judge_model: str | None = None
    prompt_fingerprint: str = ""
    roles: str = ""
    profile: str | None = None
    perceiver_profile: str | None = None
    family: FamilyName | None = None
    frame: Frame | None = None
    max_pixels: int | None = None
    perceiver_new_tokens: int | None = None
    reasoner_new_tokens: int | None = None
    dtype: str | None = None
    engine_args: Mapping[str, JsonValue] | None = None
    limit: int | None = None
    samples: int | None = None
    shuffles: int | None = None
    temperature: float | None = None
    seed: int = 0
    shard: str | None = None
    share_perception: Sharing | None = None


def find_aggregation(benchmark: str) -> Aggregation:
    """Return how a benchmark is aggregated, by its name: for folders from before run.json said so."""
    return _AGGREGATIONS.get(benchmark, "categories")


_AGGREGATIONS: Mapping[str, Aggregation] = {
    "hrbench_4k": "cycles",
    "hrbench_8k": "cycles",
    "mme_realworld": "mme",
    "mme_realworld_lite": "mme",
}


class SampleFacts(Frozen):
    """A line of samples.jsonl: what is known about a sample beyond its trace; see `Sample`."""

    sample_id: str
    category: str = ""
    gold_boxes: tuple[Box, ...] = ()
    chance: float | None = None
    cluster: str = ""
    cycle: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """An evaluation of one benchmark in one mode.

    settings: how it was asked.
    facts: every sample that was to be asked, by id, in the order of the benchmark.
    traces: one for each sample that was asked, by id; with a failure where it failed.
    folder: where it lies on disk; None for a run that was never written.
    sessions: how long each call took; () when that was not recorded.
    origin: where the data lay; None when that was not recorded.
    """

    settings: RunSettings
    facts: Mapping[str, SampleFacts]
    traces: Mapping[str, Trace]
    folder: Path | None = None
    sessions: tuple[Session, ...] = ()
    origin: Origin | None = None

    @property
    def name(self) -> str:
        """Benchmark, mode and model, for tables."""
        parts = (self.settings.benchmark, self.settings.mode, self.settings.model)
        return " ".join(part for part in parts if part)

    @property
    def place(self) -> str:
        """The folder, or the name of a run that has none; for messages."""
        return self.name if self.folder is None else str(self.folder)

    @property
    def failures(self) -> list[Failure]:
        """The failures, in the benchmark's order: neither right nor wrong, and asked again next time."""
        found = (self.traces[id].failure for id in self.facts if id in self.traces)
        return [failure for failure in found if failure is not None]

    def describe(self) -> str:
        """One line: what was asked, how far it came, and where it lies."""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        where = "in memory" if self.folder is None else f"in {self.folder}"
        return f"{type(self).__name__} {self.name}: {len(self.traces)} of {len(self.facts)} asked{failed}, {where}"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


@dataclass(frozen=True, slots=True)
class _NoImage:
    """The image of a sample that is only scored, and never loaded."""

    uri: str

    def load(self) -> Image.Image:
        """Raises ImageError always: a run holds no images."""
        raise ImageError(f"{self.uri} is not part of the run")


def write_facts(folder: Path, samples: Iterable[Sample]) -> None:
    """Write samples.jsonl.

    Raises:
        StorageError: the folder cannot be written.
    """
    write_lines(folder / SAMPLES_FILE, map(to_facts, samples))


def to_facts(sample: Sample) -> SampleFacts:
    """Return what samples.jsonl says about a sample."""
    return SampleFacts(
        sample_id=sample.id,
        category=sample.category,
        gold_boxes=sample.gold_boxes,
        chance=sample.chance,
        cluster=sample.cluster,
        cycle=sample.cycle,
    )


def read_run(folder: str | Path) -> Run:
    """Read a run that `p2r eval` or `p2r merge` wrote; also one that is still running or was killed.

    Raises:
        StorageError: the folder holds no evaluation, or a broken line.
    """
    folder = Path(folder).expanduser()
    settings = read_settings(folder, RunSettings)
    path = folder / SAMPLES_FILE
    if not path.exists():
        raise StorageError(
            f"{folder} holds no evaluation: there is no {path}", hint="give a folder that `p2r eval` wrote"
        )
    facts: dict[str, SampleFacts] = {}
    for number, line in enumerate(read_lines(path), start=1):
        try:
            fact = SampleFacts.model_validate_json(line)
        except ValidationError as error:
            raise StorageError(
                f"line {number} of {path} does not describe a sample: {explain_fault(error.errors()[0])}",
                hint=f"restore {SAMPLES_FILE}, or evaluate into another folder",
            ) from error
        facts[fact.sample_id] = fact
    found = read_traces(folder / TRACES_FILE, allow_cut_end=True)
    traces = {trace.sample_id: trace for trace in found if trace.sample_id in facts}
    return Run(settings, facts, traces, folder, read_sessions(folder), read_origin(folder))


def make_run(
    samples: Sequence[Sample],
    traces: Iterable[Trace],
    settings: RunSettings,
    *,
    wall_s: float | None = None,
    origin: Origin | None = None,
) -> Run:
    """A run that was never written.

    Args:
        traces: in any order.
        wall_s: seconds from the first question to the last answer.
    """
    found = {trace.sample_id: trace for trace in traces}
    sessions = () if wall_s is None else (Session(started="", seconds=wall_s, num_asked=len(found)),)
    return Run(settings, {sample.id: to_facts(sample) for sample in samples}, found, sessions=sessions, origin=origin)


def to_sample(trace: Trace, facts: SampleFacts) -> Sample:
    """The sample that a trace is about, without its image: what a judge needs."""
    return Sample(
        id=trace.sample_id,
        image=_NoImage(trace.image),
        question=trace.question,
        options=trace.options,
        answer_form=trace.answer_form,
        target=trace.target,
        gold_boxes=facts.gold_boxes,
        benchmark=trace.benchmark,
        category=facts.category,
        chance=facts.chance,
        cluster=facts.cluster,
        cycle=facts.cycle,
    )
