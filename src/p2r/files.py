"""Files and folders that are there whole or not at all, whatever kills the process and whenever."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from pydantic import JsonValue

from p2r.errors import StorageError

if os.name == "posix":
    import fcntl

Row = Mapping[str, JsonValue]


@contextmanager
def explain_write_errors(path: Path) -> Generator[None, None, None]:
    """Turns what the operating system says about writing `path` into a StorageError."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(
            f"{path} cannot be written: {reason}", hint="free some space, or choose another folder"
        ) from error


def lock_folder(folder: Path) -> int | None:
    """A hold on the folder that ends with the process, however it ends."""
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
    if handle is not None:
        os.close(handle)


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a kill or a loss of power leaves the old one or the new one, never half of it."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def replace_folder(folder: Path) -> Generator[Path, None, None]:
    """A draft of `folder` to write into; when the block ends well it is forced onto the disk and takes the name.

    What stood there before goes only then. A kill leaves the old folder or the new one, and perhaps a draft, which the
    next attempt removes.

    Raises:
        StorageError: something cannot be written. torch and safetensors report a full disk in ways of their own.
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
    except Exception as error:
        if not isinstance(error, (OSError, RuntimeError)) and type(error).__name__ != "SafetensorError":
            raise
        shutil.rmtree(draft, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StorageError(
            f"{folder} cannot be written: {reason.lower()}",
            hint="what was saved before is whole: free some space and run the same command with --resume",
        ) from error


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
    """A file of JSON lines. Use as a context manager.

    num_bytes: what is kept of a file that is there already.

    Raises:
        StorageError: it cannot be written, or is shorter than that.
    """

    def __init__(self, path: Path, num_bytes: int = 0) -> None:
        self.path = path
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            num_there = self._file.tell()
            self._file.truncate(min(num_bytes, num_there))
        if num_there < num_bytes:
            raise StorageError(
                f"{path} has {num_there} bytes, and had {num_bytes} when the last checkpoint was written",
                hint="put the whole file back, or start anew in another out",
            )

    def write(self, row: Row) -> None:
        with explain_write_errors(self.path):
            self._file.write(json.dumps(dict(row), ensure_ascii=False).encode() + b"\n")
            self._file.flush()

    def sync(self) -> int:
        """Force what was written onto the disk; the file's length."""
        with explain_write_errors(self.path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def read_log(path: Path) -> list[dict[str, JsonValue]]:
    """The rows of a log; a last line that has no end yet is left out.

    Raises:
        StorageError: no such file, or a line is broken.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return [json.loads(line) for line in lines]
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise StorageError(f"{path} is not a log of a run: {error}") from error
