"""A run on disk, read back: its settings, its traces, and what scoring needs to know of its samples.

`samples.jsonl` lies beside the traces, so that a run is scored, compared and merged without the benchmark's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydantic import ValidationError

from p2r.errors import ImageError, StorageError
from p2r.files import explain_write_errors, replace_file
from p2r.runs.clock import Session, read_sessions, write_sessions
from p2r.runs.origin import Origin, read_origin, write_origin
from p2r.runs.store import TRACES_FILE, Setting, TraceStore, read_settings, read_traces
from p2r.types import Box, Frozen, Sample, Trace

SAMPLES_FILE = "samples.jsonl"


class SampleFacts(Frozen):
    """What is known of a sample and not in its trace; see `Sample`."""

    sample_id: str
    category: str = ""
    gold_boxes: tuple[Box, ...] = ()
    chance: float | None = None
    cluster: str = ""
    cycle: int | None = None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run's folder, read.

    facts: every sample that was to be asked, by id, in the order of the benchmark.
    traces: one per sample that was asked, by id; with a failure where it failed.
    sessions: how long each call of the command took; () when that was not kept.
    origin: where the data lay, None when that was not kept.
    """

    folder: Path
    settings: Mapping[str, Setting]
    facts: Mapping[str, SampleFacts]
    traces: Mapping[str, Trace]
    sessions: tuple[Session, ...] = ()
    origin: Origin | None = None

    @property
    def name(self) -> str:
        """For tables: benchmark, mode and model."""
        parts = [str(self.settings.get(key)) for key in ("benchmark", "mode", "model") if self.settings.get(key)]
        return " ".join(parts) or str(self.folder)


@dataclass(frozen=True, slots=True)
class _NoImage:
    """The image of a sample that is only scored."""

    uri: str

    def load(self) -> Image.Image:
        raise ImageError(f"{self.uri} is not part of the run")


def write_facts(folder: Path, samples: Iterable[Sample]) -> None:
    """Raises StorageError when the folder cannot be written."""
    _write(folder, map(to_facts, samples))


def to_facts(sample: Sample) -> SampleFacts:
    return SampleFacts(
        sample_id=sample.id,
        category=sample.category,
        gold_boxes=sample.gold_boxes,
        chance=sample.chance,
        cluster=sample.cluster,
        cycle=sample.cycle,
    )


def read_run(folder: Path) -> StoredRun:
    """Read a run that `p2r eval` or `p2r merge` wrote; also one that is still going on or was killed.

    Raises:
        StorageError: no run, or a broken line.
    """
    settings = read_settings(folder)
    path = folder / SAMPLES_FILE
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise StorageError(
            f"{folder} holds no evaluation: {path} cannot be read", hint="give a folder that `p2r eval` wrote"
        ) from error
    facts: dict[str, SampleFacts] = {}
    for number, line in enumerate(lines, start=1):
        try:
            fact = SampleFacts.model_validate_json(line)
        except ValidationError as error:
            raise StorageError(f"line {number} of {path} says nothing of a sample") from error
        facts[fact.sample_id] = fact
    found = read_traces(folder / TRACES_FILE, allow_cut_end=True)
    traces = {trace.sample_id: trace for trace in found if trace.sample_id in facts}
    return StoredRun(folder, settings, facts, traces, read_sessions(folder), read_origin(folder))


def make_run(
    samples: Sequence[Sample], traces: Iterable[Trace], settings: Mapping[str, Setting], *, wall_s: float | None = None
) -> StoredRun:
    """A run that was never on a disk.

    Args:
        traces: in any order.
        settings: as in `run.json`; "mode" says whether boxes are part of it.
        wall_s: seconds from the first question to the last answer.
    """
    answered = {trace.sample_id: trace for trace in traces}
    sessions = () if wall_s is None else (Session(started="", seconds=wall_s, num_asked=len(answered)),)
    return StoredRun(Path(), settings, {sample.id: to_facts(sample) for sample in samples}, answered, sessions)


def to_sample(trace: Trace, facts: SampleFacts) -> Sample:
    """The sample again, without its image: what a judge needs."""
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


def merge_runs(runs: Sequence[StoredRun], out: Path) -> list[str]:
    """Join shards of one run into a new folder. Its wall time is that of all shards, one after the other.

    Returns:
        Sentences: which shards are missing, and how many samples have no answer.

    Raises:
        StorageError: the settings differ in more than the shard, two shards answered the same sample, or the folder
            holds something else.
    """
    first, *others = runs
    for other in others:
        changed = [
            f"{key} is {first.settings.get(key)} in one and {other.settings.get(key)} in the other"
            for key in sorted({*first.settings, *other.settings} - {"shard"})
            if first.settings.get(key) != other.settings.get(key)
        ]
        if changed:
            raise StorageError(
                f"{first.folder} and {other.folder} are not shards of one run: {'; '.join(changed)}",
                hint="merge runs that were made by the same command with another --shard",
            )
    traces: dict[str, Trace] = {}
    facts: dict[str, SampleFacts] = {}
    for run in runs:
        facts |= run.facts
        for trace in run.traces.values():
            if trace.sample_id in traces:
                raise StorageError(
                    f"{run.folder} answers sample {trace.sample_id!r}, and so does another run",
                    hint="merge each shard once",
                )
            traces[trace.sample_id] = trace
    notes, shard = _find_missing(runs)
    if (out / TRACES_FILE).exists():
        raise StorageError(f"{out} holds a run already", hint="merge into another folder")
    with TraceStore(out, {**first.settings, "shard": shard}) as store:
        _write(out, facts.values())
        for trace in traces.values():
            store.append(trace)
    write_sessions(out, [session for run in runs for session in run.sessions])
    if first.origin is not None:
        write_origin(out, first.origin)
    num_open = sum(1 for id in facts if id not in traces or traces[id].failure is not None)
    return [*notes, *([f"{num_open} of {len(facts)} samples have no answer"] if num_open else [])]


def _find_missing(runs: Sequence[StoredRun]) -> tuple[list[str], str | None]:
    """Sentences about missing shards, and the shard setting of the whole."""
    shards = [str(run.settings.get("shard") or "1/1") for run in runs]
    count = int(shards[0].partition("/")[2])
    missing = [f"{k}/{count}" for k in range(1, count + 1) if f"{k}/{count}" not in shards]
    if not missing:
        return [], None
    return [f"the shards {', '.join(missing)} are missing"], "+".join(sorted(shards))


def _write(folder: Path, facts: Iterable[SampleFacts]) -> None:
    with explain_write_errors(folder):
        replace_file(folder / SAMPLES_FILE, "".join(fact.model_dump_json() + "\n" for fact in facts))
