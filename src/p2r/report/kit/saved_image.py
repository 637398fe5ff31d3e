"""The evidence that `p2r ask --save` wrote, for when the image itself is gone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from p2r.evidence import Evidence
from p2r.images.budget import FullImage
from p2r.images.load import FileImage
from p2r.runs.asked import IMAGES_FOLDER, PLACE_FILE, TRACE_FILE
from p2r.types import EvidenceRecord, Trace

ANNOTATED_FILE = "annotated.png"
REMARK = "the image itself was not found: this is its saved copy, with the boxes drawn on it"


def name_crop(number: int) -> str:
    """Return the name of the file that holds the crop with this number, from 1."""
    return f"crop_{number}.png"


def is_saved_image(path: Path) -> bool:
    """True if `p2r ask --save` wrote this image: it lies beside a trace, or among the images of a batch."""
    if path.name != ANNOTATED_FILE and not re.fullmatch(r"crop_\d\.png", path.name):
        return False
    batch = path.absolute().parents[1]
    return (path.parent / TRACE_FILE).is_file() or (
        batch.name == IMAGES_FOLDER and (batch.parent / PLACE_FILE).is_file()
    )


@dataclass(frozen=True, slots=True)
class SavedImage:
    """The annotated image of a question, in a folder with its crops; both are lossless."""

    folder: Path

    @property
    def uri(self) -> str:
        return str(self.folder / ANNOTATED_FILE)

    def load(self) -> Image.Image:
        """Return the image with the boxes drawn on it.

        Raises:
            ImageError: it is not there, or broken.
        """
        return FileImage(self.folder / ANNOTATED_FILE).load()

    def gather(self, full_image: FullImage, trace: Trace) -> Evidence:
        """Return the evidence with the crops that were saved: cut out of this image, they would show lines.

        Raises:
            ImageError: a crop is not there, or broken.
        """
        record = trace.evidence or EvidenceRecord(image_wh=full_image.size)
        crops = [FileImage(self.folder / name_crop(number)).load() for number, _ in enumerate(record.crops, start=1)]
        return Evidence(full_image, trace.boxes, tuple(crops), record)
