"""Traces on disk: `run.json` says how questions are asked, `traces.jsonl` holds one trace per line.

A line is written when its walk ends, so an interrupted run loses only what was in flight, and opening the folder again
resumes it. Opening drops a last line that was cut short, and traces with a failure, because those are asked again. Two
processes cannot write the same folder (POSIX only): one would ask what the other has asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from p2r.benchmarks.base import Origin
from p2r.errors import StorageError, explain_fault, mask_secrets
from p2r.files import Log, explain_write_errors, lock_folder, read_lines, replace_file, unlock_folder, write_lines
from p2r.runs.changes import explain_changes
from p2r.runs.origin import read_origin
from p2r.types import Frozen, Sample, Trace

SETTINGS_FILE = "run.json"
TRACES_FILE = "traces.jsonl"
RECIPE_FILE = "recipe.json"
"""The settings of a training run, which is described in `p2r.runs.training`."""
ANOTHER_FOLDER = "give another `out`, or remove that folder"

Settings = TypeVar("Settings", bound=Frozen)


class TraceStore:
    """A run's folder, open for appending. Use as a context manager, from one thread of one process.

    Args:
        folder: made when missing.
        settings: everything that can change a result. A folder that was written with other settings is refused.
        origin: where the questions come from; named where the folder holds answers to others.
        hint: what to do where the folder holds another run.
        sync_every: lines that are forced onto the disk together.

    Raises:
        StorageError: the folder has other settings or a broken line, another process is writing it, or it cannot be
            written.
    """

    def __init__(
        self,
        folder: Path,
        settings: Frozen,
        *,
        origin: Origin | None = None,
        hint: str = ANOTHER_FOLDER,
        sync_every: int = 32,
    ) -> None:
        self.folder = folder
        self.path = folder / TRACES_FILE
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(folder)
        try:
            check_settings(folder, settings, origin, hint)
            lines = read_lines(self.path) if self.path.exists() else []
            kept = [trace for trace in _parse_lines(self.path, lines) if trace.failure is None]
            if len(kept) < len(lines):
                write_lines(self.path, kept)
            self._log = Log(self.path, sync_every=sync_every)
        except BaseException:
            unlock_folder(self._lock)
            raise
        self._finished = {trace.sample_id: trace for trace in kept}

    @property
    def finished(self) -> Mapping[str, Trace]:
        """The traces without a failure, by sample id."""
        return self._finished

    def find(self, sample: Sample) -> Trace | None:
        """The trace of exactly this question, if it was answered without a failure."""
        trace = self._finished.get(sample.id)
        asked = (sample.question, sample.options, sample.answer_form, sample.target)
        if trace is None or (trace.question, trace.options, trace.answer_form, trace.target) != asked:
            return None
        return trace

    def append(self, trace: Trace) -> None:
        """Write one line.

        Raises:
            StorageError: it cannot be written.
        """
        self._log.write(trace)
        if trace.failure is None:
            self._finished[trace.sample_id] = trace

    def __enter__(self) -> TraceStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._log.close()
        finally:
            unlock_folder(self._lock)


def read_traces(path: Path, *, allow_cut_end: bool = False) -> tuple[Trace, ...]:
    """The traces of a file in the order of their first line; of several lines about one sample, the last counts.

    Args:
        allow_cut_end: leave out a last line without an end, as in a run that is still running or was killed.

    Raises:
        StorageError: the file is missing or a line is broken.
    """
    if not path.exists():
        raise StorageError(
            f"{path} cannot be read: no such file", hint=f"give a folder that `p2r eval` wrote; or restore {path.name}"
        )
    lines = read_lines(path)
    if not allow_cut_end and (rest := path.read_bytes().rpartition(b"\n")[2]):
        lines.append(rest.decode(errors="replace"))
    return tuple(_parse_lines(path, lines))


def read_settings(folder: Path, kind: type[Settings]) -> Settings:
    """The settings of a run's folder.

    Args:
        kind: the class that wrote them.

    Raises:
        StorageError: the folder holds no run, or one of another kind.
    """
    path = folder / SETTINGS_FILE
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
        return kind.model_validate_json(mask_secrets(text).encode(errors="surrogateescape"))
    except OSError as error:
        raise StorageError(
            f"{folder} holds no run: {path} cannot be read", hint="give the folder that `p2r eval` wrote"
        ) from error
    except ValidationError as error:
        raise _explain_settings(path, error) from error


def _explain_settings(path: Path, error: ValidationError) -> StorageError:
    unknown = [str(detail["loc"][0]) for detail in error.errors() if detail["type"] == "extra_forbidden"]
    if unknown:
        return StorageError(
            f"{path} has settings that are not known here: {', '.join(unknown)}",
            hint="another command or a newer p2r wrote it: use that, or save into another folder",
        )
    return StorageError(
        f"{path} does not hold the settings of such a run: {explain_fault(error.errors()[0])}",
        hint=f"give a folder that `p2r eval` wrote; or restore {SETTINGS_FILE}",
    )


def check_settings(folder: Path, settings: Frozen, origin: Origin | None = None, hint: str = ANOTHER_FOLDER) -> None:
    """Write the settings of a new run, or compare those of an old one. See `TraceStore`.

    Raises:
        StorageError: the folder was written with other settings, or cannot be written.
    """
    path, text = folder / SETTINGS_FILE, mask_secrets(json.dumps(settings.model_dump(mode="json"), indent=2)) + "\n"
    if path.exists():
        now: dict[str, JsonValue] = json.loads(text)
        before = read_settings(folder, type(settings)).model_dump(mode="json")
        if changes := explain_changes(before, now, was=_find_origin(folder), is_now=origin):
            raise StorageError(f"{folder} holds {changes}", hint=hint)
        if path.read_text(encoding="utf-8") == mask_secrets(path.read_text(encoding="utf-8")):
            return
    elif (folder / RECIPE_FILE).exists():
        raise StorageError(f"{folder} holds a training run", hint=hint)
    with explain_write_errors(folder):
        replace_file(path, text)


def _find_origin(folder: Path) -> Origin | None:
    """Return where the questions of a run came from; None where that was not recorded, or cannot be read."""
    try:
        return read_origin(folder)
    except StorageError:
        return None


def _parse_lines(path: Path, lines: Sequence[str]) -> list[Trace]:
    """One trace per sample id, the last line of several, in the order of the first."""
    traces: dict[str, Trace] = {}
    for number, line in enumerate(lines, start=1):
        try:
            trace = Trace.model_validate_json(line)
        except ValidationError as error:
            raise StorageError(
                f"line {number} of {path} is not a trace: {explain_fault(error.errors()[0])}",
                hint="remove that line, or save into another folder",
            ) from error
        traces[trace.sample_id] = trace
    return list(traces.values())
