"""One trace as files that can be looked at: the image with its boxes, the crops, and the trace."""

from __future__ import annotations

from pathlib import Path

from p2r.evidence import gather
from p2r.files import explain_write_errors
from p2r.images.budget import FullImage
from p2r.types import ImageSource, Trace

ANNOTATED_FILE = "annotated.png"
TRACE_FILE = "trace.json"


def holds_trace(folder: Path, trace: Trace) -> bool:
    """Whether `save_trace` has written this very trace into the folder, wholly: trace.json comes last."""
    path = folder / TRACE_FILE
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == _write(trace)


def save_trace(folder: Path, trace: Trace, image: ImageSource) -> tuple[Path, ...]:
    """Write trace.json and, when there was evidence, annotated.png and crop_1.png to crop_3.png, all losslessly.

    Files of these names from an earlier question are replaced or removed.

    Raises:
        StorageError: the folder cannot be written.
        ImageError: the image cannot be loaded again.
    """
    evidence = gather(FullImage(image.load()), trace.boxes)
    full_images = {f"crop_{number}.png": crop for number, crop in enumerate(evidence.crops, start=1)}
    if evidence.annotated is not None:
        full_images = {ANNOTATED_FILE: evidence.annotated, **full_images}
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (folder / ANNOTATED_FILE, *folder.glob("crop_[0-9].png")):
            stale.unlink(missing_ok=True)
        for name, full_image in full_images.items():
            full_image.save(folder / name, compress_level=1)
        (folder / TRACE_FILE).write_text(_write(trace), encoding="utf-8")
    return tuple(folder / name for name in (*full_images, TRACE_FILE))


def _write(trace: Trace) -> str:
    return trace.model_dump_json(indent=2) + "\n"
