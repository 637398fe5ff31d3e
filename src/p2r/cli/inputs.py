"""Find the images that `p2r ask` is pointed at: files, folders, patterns, addresses on the web, standard input.

What a folder holds and is not asked about is listed, so that a photo does not go missing in silence.
"""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2r.errors import DataError, count_nouns, excerpt, mask_secrets
from p2r.images.contents import name_path
from p2r.images.find import EncodedImage, find_image, is_url
from p2r.images.formats import HEIC_HINT, HEIC_SUFFIXES, list_suffixes, reads_heic
from p2r.report.kit.saved_image import is_saved_image
from p2r.types import ImageSource

STDIN, STDIN_NAME = "-", "stdin"
MIXED = "images"
"""The name of a batch whose images do not lie in one folder."""


@dataclass
class NotAsked:
    """The contents of folders that are not asked about."""

    suffixes: Counter[str] = field(default_factory=Counter[str])
    others: Counter[str] = field(default_factory=Counter[str])

    def describe(self) -> str:
        """Return one line, such as "left out 2 files: .pdf 1, .svg 1"; "" when nothing was left out."""
        parts: list[str] = []
        if self.suffixes:
            listed = ", ".join(f"{suffix or 'no suffix'} {count}" for suffix, count in sorted(self.suffixes.items()))
            parts.append(f"{count_nouns(self.suffixes.total(), 'file')}: {listed}")
        parts += [count_nouns(count, name) for name, count in sorted(self.others.items())]
        hints: list[str] = []
        if FOLDER in self.others:
            hints.append("--recursive looks into folders")
        if SAVED in self.others:
            hints.append("--save wrote the saved images")
        if not reads_heic() and HEIC_SUFFIXES & self.suffixes.keys():
            hints.append(f"for HEIC: {HEIC_HINT}")
        advice = f" ({'; '.join(hints)})" if hints else ""
        return f"left out {'; '.join(parts)}{advice}" if parts else ""


FOLDER, LINKED_FOLDER, BROKEN_LINK, HIDDEN = "folder", "linked folder", "broken link", "hidden file"
SAVED = "saved image"


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images to ask about, by the ids of their questions.

    is_batch: False for one image that is not from a folder.
    run_name: the name of the batch's folder.
    """

    images: dict[str, ImageSource]
    is_batch: bool
    run_name: str
    left_out: NotAsked


def find_images(names: Sequence[str], *, recursive: bool, max_image_pixels: int) -> FoundImages:
    """Find the images that are named: a path, a folder, a pattern such as "*.jpg", a URL, or "-" for standard input.

    Args:
        recursive: look into the folders of a folder.

    Raises:
        DataError: a folder cannot be read or holds no image, a pattern fits none, or standard input is a terminal.
    """
    left_out, images, has_folder = NotAsked(), dict[str, ImageSource](), False

    def add(name: str | Path, id: str) -> None:
        images[name_path(id)] = find_image(name, max_image_pixels=max_image_pixels)

    for name in names:
        if name == STDIN:
            images[STDIN_NAME] = EncodedImage(read_stdin(), STDIN_NAME, max_image_pixels)
        elif is_url(name):
            found = find_image(name, max_image_pixels=max_image_pixels)
            images[found.uri] = found
        elif _is_dir(name):
            has_folder = True
            for path in _list_folder(Path(name), recursive, left_out):
                add(path, path.relative_to(name).as_posix() if len(names) == 1 else str(path))
        elif glob.has_magic(name) and not os.path.lexists(name):
            for path in _list_pattern(name, left_out):
                add(path, str(path))
        else:
            add(name, name)
    return FoundImages(images, has_folder or len(images) > 1, _name_run(names, images), left_out)


def read_stdin() -> bytes:
    """Return what is piped in. Raises DataError when nothing is, or when it is empty."""
    if sys.stdin.isatty():
        raise DataError("- is for what is piped in, and nothing is", hint='p2r ask - "QUESTION" < image.jpg')
    data = sys.stdin.buffer.read()
    if not data:
        raise DataError(f"{STDIN_NAME} is empty (0 bytes)", hint="the command before the pipe wrote nothing")
    return data


def _list_folder(folder: Path, recursive: bool, left_out: NotAsked) -> list[Path]:
    """List the images of a folder in order of their names."""
    skipped = NotAsked()
    paths = sorted(path for path in _scan(folder, recursive, skipped) if _is_wanted(path, skipped))
    if not paths:
        raise DataError(
            f"the folder {folder} holds no images",
            hint=skipped.describe() or f"looked for {', '.join(sorted(list_suffixes()))}",
        )
    left_out.suffixes += skipped.suffixes
    left_out.others += skipped.others
    return paths


def _scan(folder: Path, recursive: bool, left_out: NotAsked) -> Iterator[Path]:
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be read: {(error.strerror or str(error)).lower()}",
            hint="check its permissions",
        ) from error
    for path in paths:
        if path.name.startswith("."):
            left_out.others[HIDDEN] += 1
        elif is_saved_image(path):
            left_out.others[SAVED] += 1
        elif not path.is_dir():
            yield path
        elif recursive and not path.is_symlink():
            yield from _scan(path, recursive, left_out)
        else:
            left_out.others[LINKED_FOLDER if recursive else FOLDER] += 1


def _list_pattern(pattern: str, left_out: NotAsked) -> list[Path]:
    found = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207  # patterns as the shell has them
    left_out.others[FOLDER] += sum(path.is_dir() for path in found)
    left_out.others = +left_out.others
    paths = [path for path in found if not path.is_dir() and _is_wanted(path, left_out)]
    if not paths:
        raise DataError(f"no image fits {pattern!r}", hint=left_out.describe() or "check the pattern and the folder")
    return paths


def _is_wanted(path: Path, left_out: NotAsked) -> bool:
    if path.is_symlink() and not path.exists():
        left_out.others[BROKEN_LINK] += 1
        return False
    suffix = path.suffix.lower()
    if suffix in list_suffixes() and path.is_file():
        return True
    left_out.suffixes[suffix] += 1
    return False


def _is_dir(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # too long, or a null byte: the image's own error says so
        return False


def _name_run(names: Sequence[str], images: dict[str, ImageSource]) -> str:
    if len(names) == 1 and _is_dir(names[0]):
        return Path(names[0]).resolve().stem
    folders = {Path(image.uri).parent.resolve() for id, image in images.items() if id != STDIN_NAME and not is_url(id)}
    is_one = len(folders) == 1 and not any(is_url(name) or name == STDIN for name in names)
    return (folders.pop().stem if is_one else "") or MIXED


def describe_inputs(inputs: Sequence[str], *, has_question: bool) -> str:
    """Name a file of questions, or images and their question; "" for what is piped in, which has no name."""
    if STDIN in inputs:
        return ""
    names = inputs[:-1] if has_question else inputs
    places = [each if is_url(each) else str(Path(each).expanduser().resolve()) for each in names]
    return mask_secrets(" ".join([*places, *([excerpt(inputs[-1])] if has_question else [])]))
