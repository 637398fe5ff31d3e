"""Files and folders that survive a kill: each is written whole or not at all, and logs lose no finished line."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from pydantic import BaseModel, JsonValue

from p2r.errors import StorageError, count_nouns, reason_of

if os.name == "posix":
    import fcntl

JsonRow = Mapping[str, JsonValue]

BROKEN_LOG_HINT = "restore the file; or remove that line to read the others, after which the run cannot be resumed"
_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
_WRITERS_OF_TORCH = ("inline_container", "PytorchStreamWriter")
_PROBE_BYTES = 1 << 20


@contextmanager
def explain_write_errors(path: Path) -> Generator[None, None, None]:
    """Turn what the operating system says about writing `path` into a StorageError.

    Raises:
        StorageError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = reason_of(error)
        is_full = error.errno in _FULL_DISK
        advice = "free some space" if is_full else "check the path and its permissions"
        raise StorageError(f"{path} cannot be written: {reason}", hint=f"{advice}, or choose another folder") from error


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written, before work is done for it. Makes nothing.

    Raises:
        StorageError: a file is in its place, or the nearest folder above it is not writable.
    """
    with explain_write_errors(folder):
        place = next((each for each in (folder, *folder.absolute().parents) if each.exists()), folder)
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{place} is a file")
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{place} is not writable")


def lock_folder(folder: Path) -> int | None:
    """Lock a folder for this process; the lock ends with the process, however that ends.

    Returns:
        The handle that `unlock_folder` takes; None where the file system has no locks.

    Raises:
        StorageError: another process holds the lock, or the folder cannot be opened.
    """
    if os.name != "posix":
        return None
    with explain_write_errors(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StorageError(
            f"another process is writing {folder}", hint="wait for it, or save into another folder"
        ) from error
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle


def unlock_folder(handle: int | None) -> None:
    """Give back what `lock_folder` returned."""
    if handle is not None:
        os.close(handle)


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that a kill or a loss of power leaves the old one or the new one, never half of it.

    What goes wrong in between, such as a full disk or a Ctrl-C, leaves no draft beside it.
    """
    draft = path.with_name(path.name + ".tmp")
    try:
        with draft.open("wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def replace_folder(folder: Path, *, resumable: bool = True) -> Generator[Path, None, None]:
    """Yield a draft of `folder` to write into; when the block ends well, the draft is forced onto the disk and renamed.

    The old folder is removed only then. A kill leaves the old folder or the new one, and perhaps a draft, which the
    next attempt removes; an error leaves no draft.

    Args:
        resumable: what writes the folder can be resumed, which the error's hint then says.

    Raises:
        StorageError: something cannot be written. Whatever else the block raises, such as a lack of memory, is raised
            as it is.
    """
    draft = folder.with_name(folder.name + ".tmp")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        for path in sorted(draft.rglob("*")):
            _sync(path)
        _sync(draft)
        _take_name(draft, folder)
        _sync(folder.parent)
    except BaseException as error:
        cause = _find_write_error(error, draft)
        shutil.rmtree(draft, ignore_errors=True)
        if cause is None:
            raise
        advice = "free some space" if cause.errno in _FULL_DISK else "check the path and its permissions"
        raise StorageError(
            f"{folder} cannot be written: {reason_of(cause)}",
            hint=f"what was saved before is whole: {advice} and resume with `resume=True`"
            if resumable
            else f"{advice}, or choose another folder",
        ) from error


def _find_write_error(error: BaseException, draft: Path) -> OSError | None:
    """Return what the operating system said to a write that failed; None when something else failed.

    torch's writer does not tell, so a write of our own finds out; safetensors tells in its words alone.
    """
    if isinstance(error, OSError):
        return error
    is_torch = isinstance(error, RuntimeError) and any(name in str(error) for name in _WRITERS_OF_TORCH)
    if not is_torch and type(error).__name__ != "SafetensorError":
        return None
    if number := re.search(r"os error (\d+)", str(error)):
        return OSError(int(number[1]), os.strerror(int(number[1])))
    try:
        with (draft / "probe").open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as found:
        return found
    return OSError(errno.EIO, str(error))


def _take_name(draft: Path, folder: Path) -> None:
    if not folder.exists():
        draft.rename(folder)
        return
    discarded = folder.with_name(folder.name + ".old")
    shutil.rmtree(discarded, ignore_errors=True)
    folder.rename(discarded)
    draft.rename(folder)
    shutil.rmtree(discarded)


def _sync(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Log:
    """A file of JSON lines, open for appending. Use as a context manager, or call `close`.

    Opening drops a last line that a kill or a full disk cut short. A written line is handed to the operating system at
    once, so a kill of the process loses none.

    Args:
        path: made when missing, with its folder.
        num_bytes: keep only this much of an existing file; None keeps every whole line.
        sync_every: lines that are forced onto the disk together, for a machine that loses its power; None leaves that
            to `sync`.

    Raises:
        StorageError: the file cannot be written, or is shorter than `num_bytes`.
    """

    def __init__(self, path: Path, *, num_bytes: int | None = None, sync_every: int | None = None) -> None:
        self.path = path
        self._sync_every, self._num_unsynced = sync_every, 0
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            num_there = self._file.seek(0, os.SEEK_END)
            self._file.truncate(_find_end(self._file, num_there) if num_bytes is None else min(num_bytes, num_there))
        if num_bytes is not None and num_there < num_bytes:
            self._file.close()
            raise StorageError(
                f"{path} has {count_nouns(num_there, 'byte')}, and had {num_bytes:,} at the last checkpoint",
                hint="put the whole file back, or start again in another folder",
            )

    def write(self, row: BaseModel | JsonRow) -> None:
        """Append one line.

        Raises:
            StorageError: it cannot be written.
        """
        with explain_write_errors(self.path):
            self._file.write(to_line(row).encode())
            self._file.flush()
            self._num_unsynced += 1
            if self._num_unsynced == self._sync_every:
                self.sync()

    def sync(self) -> int:
        """Force every line onto the disk, and return the file's length in bytes.

        Raises:
            StorageError: it cannot be written.
        """
        with explain_write_errors(self.path):
            os.fsync(self._file.fileno())
            self._num_unsynced = 0
            return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Close the file; with `sync_every`, after forcing the last lines onto the disk."""
        with explain_write_errors(self.path), self._file:
            if self._sync_every is not None and self._num_unsynced:
                self.sync()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def to_line(row: BaseModel | JsonRow) -> str:
    """One line of JSON with its end."""
    text = row.model_dump_json() if isinstance(row, BaseModel) else json.dumps(dict(row), ensure_ascii=False)
    return text + "\n"


def write_lines(path: Path, rows: Iterable[BaseModel | JsonRow]) -> None:
    """Write a whole file of JSON lines, or leave the old one.

    Raises:
        StorageError: it cannot be written.
    """
    with explain_write_errors(path):
        replace_file(path, "".join(map(to_line, rows)))


def read_lines(path: Path) -> list[str]:
    """The whole lines of a file; a last line without an end is still being written, or was cut, and is left out.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {reason_of(error)}") from error
    return lines


def read_log(path: Path) -> list[dict[str, JsonValue]]:
    """The rows of a log; a last line without an end is left out.

    Raises:
        StorageError: the file cannot be read, or a line is broken.
    """
    rows: list[dict[str, JsonValue]] = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            reason = f"{error.msg}: column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise StorageError(f"line {number} of {path} is not JSON: {reason}", hint=BROKEN_LOG_HINT) from error
    return rows


def _find_end(file: BinaryIO, num_bytes: int) -> int:
    """Return where the last whole line of a file ends, in bytes."""
    end = num_bytes
    while end:
        start = max(0, end - _CHUNK_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


_CHUNK_BYTES = 1 << 16
