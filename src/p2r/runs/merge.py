"""Shards of one run joined into the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from p2r.errors import StorageError
from p2r.files import write_lines
from p2r.runs.changes import list_changes
from p2r.runs.clock import CLOCK_FILE
from p2r.runs.evaluation import SAMPLES_FILE, Run, RunSettings, SampleFacts
from p2r.runs.origin import write_origin
from p2r.runs.store import TRACES_FILE, TraceStore
from p2r.types import Trace


def merge_runs(runs: Sequence[Run], out: Path) -> list[str]:
    """Join shards of one run in a new folder. Its wall time is that of all shards, one after the other.

    Returns:
        Sentences: which shards are missing, and how many samples have no answer.

    Raises:
        StorageError: the settings differ in more than the shard, two shards answered the same sample, or the folder
            holds something else.
    """
    first, *others = runs
    for other in others:
        changed = _list_differences(first.settings, other.settings)
        if changed:
            raise StorageError(
                f"{first.place} and {other.place} are not shards of one run: {'; '.join(changed)}",
                hint="merge runs that the same command made with other values of `shard`",
            )
    traces: dict[str, Trace] = {}
    facts: dict[str, SampleFacts] = {}
    for run in runs:
        facts |= run.facts
        for trace in run.traces.values():
            if trace.sample_id in traces:
                raise StorageError(
                    f"{run.place} answers sample {trace.sample_id!r}, and so does another run",
                    hint="merge each shard once",
                )
            traces[trace.sample_id] = trace
    notes, shard = _find_missing(runs)
    if (out / TRACES_FILE).exists():
        raise StorageError(f"{out} holds a run already", hint="merge into another folder")
    with TraceStore(out, first.settings.model_copy(update={"shard": shard})) as store:
        write_lines(out / SAMPLES_FILE, facts.values())
        for trace in traces.values():
            store.append(trace)
    write_lines(out / CLOCK_FILE, [session for run in runs for session in run.sessions])
    if first.origin is not None:
        write_origin(out, first.origin)
    num_open = sum(1 for id in facts if id not in traces or traces[id].failure is not None)
    return [*notes, *([f"{num_open} of {len(facts)} samples have no answer"] if num_open else [])]


def _list_differences(first: RunSettings, other: RunSettings) -> list[str]:
    """Say which settings of two shards differ, apart from the shard."""
    one, another = (run.model_dump(mode="json", exclude={"shard"}) for run in (first, other))
    return list_changes(one, another, words="{name} is {before} in one and {now} in the other")


def _find_missing(runs: Sequence[Run]) -> tuple[list[str], str | None]:
    """Sentences about missing shards, and the shard setting of the whole."""
    shards = [run.settings.shard or "1/1" for run in runs]
    count = int(shards[0].partition("/")[2])
    missing = [f"{k}/{count}" for k in range(1, count + 1) if f"{k}/{count}" not in shards]
    if not missing:
        return [], None
    return [f"the shards {', '.join(missing)} are missing"], "+".join(sorted(shards))
