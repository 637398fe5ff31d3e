"""Files and folders that are there whole or not at all, whatever kills the process and whenever."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from p2r.errors import StorageError


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
    except (OSError, RuntimeError, SafetensorError) as error:
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
