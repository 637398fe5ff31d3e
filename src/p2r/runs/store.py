"""Traces on disk: one folder is one run. `run.json` says what was asked with, `traces.jsonl` holds a trace a line.

A line is written when its walk ends, so an interrupted run loses only what was in flight; opening the folder again
goes on. A last line cut short by a kill or a full disk is dropped, and so are traces with a failure, because they are
asked again. Lines are forced onto the disk in batches, for a machine that loses its power; a kill of the process loses
none that was written. Two processes cannot write the same folder (POSIX only): one would ask what the other has asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from pydantic import TypeAdapter, ValidationError

from p2r.errors import StorageError
from p2r.files import explain_write_errors, lock_folder, replace_file, unlock_folder
from p2r.types import Sample, Trace

if os.name == "posix":
    pass

SETTINGS_FILE = "run.json"
TRACES_FILE = "traces.jsonl"

Setting = str | int | float | bool | None
_SETTINGS = TypeAdapter(dict[str, Setting])


class TraceStore:
    """A run's folder, open for appending. Use as a context manager, from one thread of one process.

    folder: made when missing.
    settings: everything that can change a result. A folder that was written with other settings is refused.
    sync_every: lines that are forced onto the disk together.

    Raises:
        StorageError: other settings, a broken line that is not the last, another process writes the folder, or it
            cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Setting], *, sync_every: int = 32) -> None:
        self.folder = folder
        self.path = folder / TRACES_FILE
        self._sync_every, self._num_unsynced = sync_every, 0
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(folder)
        try:
            with explain_write_errors(folder):
                _check_settings(folder / SETTINGS_FILE, settings)
                kept, is_clean = _read(self.path)
                if not is_clean:
                    replace_file(self.path, "".join(trace.model_dump_json() + "\n" for trace in kept))
                self._file = self.path.open("a", encoding="utf-8")
        except BaseException:
            unlock_folder(self._lock)
            raise
        self._finished = {trace.sample_id: trace for trace in kept}

    @property
    def finished(self) -> Mapping[str, Trace]:
        """The traces without a failure, by sample id."""
        return self._finished

    def find(self, sample: Sample) -> Trace | None:
        """The trace of this very question, when it was answered without a failure."""
        trace = self._finished.get(sample.id)
        asked = (sample.question, sample.options, sample.answer_form, sample.target)
        if trace is None or (trace.question, trace.options, trace.answer_form, trace.target) != asked:
            return None
        return trace

    def append(self, trace: Trace) -> None:
        """Write one line, and hand it to the operating system at once."""
        with explain_write_errors(self.folder):
            self._file.write(trace.model_dump_json() + "\n")
            self._file.flush()
            self._num_unsynced += 1
            if self._num_unsynced >= self._sync_every:
                self._sync()
        if trace.failure is None:
            self._finished[trace.sample_id] = trace

    def __enter__(self) -> TraceStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with explain_write_errors(self.folder), self._file:
                self._sync()
        finally:
            unlock_folder(self._lock)

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._num_unsynced = 0


def read_traces(path: Path, *, allow_cut_end: bool = False) -> tuple[Trace, ...]:
    """The traces of a file in the order of their first line; of several lines about one sample the last counts.

    Args:
        allow_cut_end: leave out a last line that has no end yet: a run that goes on, or was killed.

    Raises:
        StorageError: the file is missing or a line is broken.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace" if allow_cut_end else "strict")
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if allow_cut_end:
        text = text[: text.rfind("\n") + 1]
    return tuple(_parse_lines(path, text.removesuffix("\n").split("\n") if text else ()))


def _read(path: Path) -> tuple[list[Trace], bool]:
    """The traces to keep, and whether the file holds exactly those."""
    if not path.exists():
        return [], True
    *lines, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
    kept = [trace for trace in _parse_lines(path, lines) if trace.failure is None]
    return kept, len(kept) == len(lines) and not rest


def _parse_lines(path: Path, lines: Sequence[str]) -> list[Trace]:
    """One trace per sample id, the last line of several, in the order of the first."""
    traces: dict[str, Trace] = {}
    for number, line in enumerate(lines, start=1):
        try:
            trace = Trace.model_validate_json(line)
        except ValidationError as error:
            raise StorageError(
                f"line {number} of {path} is not a trace", hint="remove that line, or save into another folder"
            ) from error
        traces[trace.sample_id] = trace
    return list(traces.values())


def read_settings(folder: Path) -> dict[str, Setting]:
    """The settings of a run's folder.

    Raises:
        StorageError: the folder holds no run.
    """
    path = folder / SETTINGS_FILE
    try:
        return _SETTINGS.validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(
            f"{folder} holds no run: {path} cannot be read", hint="give the folder that `p2r eval` wrote"
        ) from error
    except ValidationError as error:
        raise StorageError(f"{path} does not hold the settings of a run", hint="save into another folder") from error


def _check_settings(path: Path, settings: Mapping[str, Setting]) -> None:
    if not path.exists():
        replace_file(path, json.dumps(dict(settings), indent=2) + "\n")
        return
    before = read_settings(path.parent)
    changed = [
        f"{key} was {_show(before.get(key))}, now {_show(settings.get(key))}"
        for key in sorted({*before, *settings})
        if before.get(key) != settings.get(key)
    ]
    if changed:
        raise StorageError(
            f"{path.parent} holds another run: {'; '.join(changed)}",
            hint="save into another folder, or remove that one",
        )


def _show(value: Setting) -> str:
    return "not set" if value is None else str(value)
