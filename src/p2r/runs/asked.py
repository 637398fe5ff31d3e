"""What `p2r ask` leaves in a folder, read again for people: one question with --save, or a batch.

One question   trace.json, asked.json and, when there was evidence, annotated.png and crop_1.png to crop_3.png
Batch          run.json, traces.jsonl, asked.json; with --save the files of each question in images/ID

`run.json` of a batch differs from that of an evaluation in that it names no benchmark.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import Field, JsonValue, ValidationError

from p2r.dialogue import Budget
from p2r.errors import ImageError, StorageError, explain_fault
from p2r.files import explain_write_errors, replace_file
from p2r.images.find import StoredImage
from p2r.images.load import FileImage
from p2r.models.profiles import FamilyName
from p2r.modes import Mode
from p2r.runs.difficulty import is_measurement
from p2r.runs.evaluation import SAMPLES_FILE
from p2r.runs.store import SETTINGS_FILE, TRACES_FILE, TraceStore, read_settings, read_traces
from p2r.types import Frame, Frozen, ImageSource, Sample, Trace

ANOTHER_SAVE = "give another `save`, or remove that folder"
TRACE_FILE = "trace.json"
PLACE_FILE = "asked.json"
IMAGES_FOLDER = "images"

_Kind = TypeVar("_Kind", bound=Frozen)


class BatchSettings(Frozen):
    """run.json of a batch: everything that can change an answer; see `RunSettings`."""

    model: str
    perceiver_model: str | None
    mode: Mode
    prompts: str
    prompt_fingerprint: str
    profile: str | None = None
    perceiver_profile: str | None = None
    family: FamilyName | None = None
    frame: Frame | None = None
    max_pixels: int | None
    perceiver_new_tokens: int | None = None
    reasoner_new_tokens: int | None = None
    dtype: str | None
    engine_args: Mapping[str, JsonValue] | None = None


class AskedPlace(Frozen):
    """asked.json: what a page needs to show the images again. It is no part of the settings.

    working_directory: where relative paths of images begin.
    budget: the pixel budget of the model that answered; None when it is not known.
    asked: of a batch, the file or the images and the question; "" where it is not known.
    stamps: of a batch, by sample id, what tells the image that was asked about from a changed one; see `stamp_image`.
    """

    working_directory: str
    budget: Budget | None = None
    asked: str = ""
    stamps: Mapping[str, str] = Field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class AskedQuestions:
    """Questions that were asked, and what was answered.

    name: the folder, or what was asked about where there is none.
    traces: in the order in which they were answered, those that failed among them.
    settings: None for a single question, whose folder holds none.
    saved: by sample id, the folder that --save writes its annotated image and its crops into.
    """

    name: str
    traces: tuple[Trace, ...]
    settings: BatchSettings | None = None
    place: AskedPlace | None = None
    saved: Mapping[str, Path] = field(default_factory=dict[str, Path])


def is_asked(folder: Path) -> bool:
    """True if `p2r ask` wrote the folder. A settings file that cannot be read belongs to no batch."""
    if (folder / TRACE_FILE).is_file():
        return True
    is_other = (folder / SAMPLES_FILE).exists() or is_measurement(folder)
    if is_other or not (folder / SETTINGS_FILE).is_file():
        return False
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and "model" in settings and "benchmark" not in settings


def find_asked_folders(place: Path) -> list[Path]:
    """The folder itself, or all below it that `p2r ask` wrote, in order of their names; [] if there is none."""
    if is_asked(place):
        return [place]
    files = [*place.rglob(SETTINGS_FILE), *place.rglob(TRACE_FILE)]
    found = [folder for folder in sorted({path.parent for path in files}) if is_asked(folder)]
    batches = {folder for folder in found if not (folder / TRACE_FILE).exists()}
    return [folder for folder in found if folder.parent.parent not in batches or folder.parent.name != IMAGES_FOLDER]


def read_asked(folder: str | Path) -> AskedQuestions:
    """Read a folder that `p2r ask` wrote; also a batch that is still running or was stopped.

    Raises:
        StorageError: the folder holds no answer, or a broken file.
    """
    folder = Path(folder).expanduser()
    if (folder / TRACE_FILE).is_file():
        trace = _read_file(folder / TRACE_FILE, Trace)
        return AskedQuestions(str(folder), (trace,), place=_find_place(folder), saved={trace.sample_id: folder})
    settings = read_settings(folder, BatchSettings)
    traces = read_traces(folder / TRACES_FILE, allow_cut_end=True)
    if not traces:
        raise StorageError(f"{folder} holds no answer yet", hint="give a folder in which a question was answered")
    place = _find_place(folder)
    saved = {trace.sample_id: folder / IMAGES_FOLDER / name_folder(trace.sample_id) for trace in traces}
    return AskedQuestions(str(folder), traces, settings, place, saved)


def _find_place(folder: Path) -> AskedPlace | None:
    """Return what the folder, or the batch that it is a part of, says; None from before that was written."""
    batch = folder.parent.parent if folder.parent.name == IMAGES_FOLDER else folder
    path = next((path for path in (folder / PLACE_FILE, batch / PLACE_FILE) if path.exists()), None)
    return None if path is None else _read_file(path, AskedPlace)


def read_place(folder: Path) -> AskedPlace | None:
    """Read asked.json; None where nothing was asked yet, or by an older version.

    Raises:
        StorageError: asked.json is broken.
    """
    path = folder / PLACE_FILE
    return _read_file(path, AskedPlace) if path.exists() else None


def check_questions(folder: Path, samples: Sequence[Sample], store: TraceStore, asked: str) -> None:
    """Refuse a folder that holds the answers to other questions. A file may have been moved, or have grown, since.

    Args:
        asked: what is asked now, as in `AskedPlace`.

    Raises:
        StorageError: it does, or asked.json is broken.
    """
    before = read_place(folder)
    if before is None or not before.asked or not asked or before.asked == asked:
        return
    if sum(store.find(sample) is not None for sample in samples) < len(store.finished):
        raise StorageError(f"{folder} holds the answers to {before.asked}, not to {asked}", hint=ANOTHER_SAVE)


def stamp_image(image: ImageSource) -> str:
    """Return what changes with an image: the size and time of its file, or a hash of what is in memory.

    "" for an image on the web, or a file that cannot be read.
    """
    if isinstance(image, FileImage):
        try:
            status = Path(image.path).stat()
        except (OSError, ValueError):
            return ""
        return f"{status.st_size} {status.st_mtime_ns}"
    try:
        return hashlib.sha256(image.data).hexdigest()[:16] if isinstance(image, StoredImage) else ""
    except ImageError:
        return ""


def write_place(folder: Path, place: AskedPlace) -> None:
    """Write asked.json in place of an earlier one: the command may have been called from elsewhere.

    Raises:
        StorageError: it cannot be written.
    """
    with explain_write_errors(folder):
        replace_file(folder / PLACE_FILE, place.model_dump_json(indent=2) + "\n")


def name_folder(sample_id: str) -> str:
    """Return the id if it can name a folder; else its usable characters and a hash that tells it apart."""
    kept = re.sub(r"[^\w.-]", "_", sample_id)[:80]
    if kept == sample_id and kept.strip("."):
        return kept
    return f"{kept.strip('.')}-{hashlib.sha256(sample_id.encode()).hexdigest()[:8]}"


def _read_file(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValidationError as error:
        raise StorageError(
            f"{path} is not what `p2r ask` writes: {explain_fault(error.errors()[0])}",
            hint="restore the file, or ask the question again",
        ) from error
