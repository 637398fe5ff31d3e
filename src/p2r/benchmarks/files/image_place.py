"""Where images go that are written with rows: into the file, or into a folder beside it."""

from __future__ import annotations

import base64
from pathlib import Path

from p2r.benchmarks.files.encoded_image import encode_image
from p2r.benchmarks.files.field_image import ParquetImage
from p2r.files import explain_write_errors
from p2r.images.load import FileImage
from p2r.images.web import WebImage
from p2r.types import ImageSource


class ImagePlace:
    """Puts images into the file `path`, or into the folder NAME_images beside it, each once.

    inside: put them into the file. as_bytes: as bytes, not as data URLs.
    """

    def __init__(self, path: Path, *, inside: bool = False, as_bytes: bool = False) -> None:
        self.folder = path.parent / f"{path.name.partition('.')[0]}_images"
        self.inside, self.as_bytes = inside, as_bytes
        self.names: dict[str, str] = {}

    def state(self, image: ImageSource, *, in_message: bool = False) -> object:
        """Return what stands for an image: a path, a data URL, or bytes.

        Args:
            in_message: the image is part of a message, which has no place for bytes.
        """
        as_bytes = self.as_bytes and not in_message
        if not self.inside:
            path = self.save(image)
            return {"bytes": None, "path": path} if as_bytes else path
        data, suffix = encode_image(image)
        if as_bytes:
            return {"bytes": data, "path": f"image.{suffix}"}
        kind = {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

    def refer(self, image: ImageSource) -> str:
        """Return the whole path or the address of an image; one that lies in no file of its own is saved first."""
        if isinstance(image, ParquetImage):
            image = found if isinstance(found := image.find(), FileImage | WebImage) else image
        if isinstance(image, FileImage):
            return str(Path(image.path).absolute())
        return image.url if isinstance(image, WebImage) else self.save(image)

    def save(self, image: ImageSource) -> str:
        """Write an image beside the file, unless that was done before, and return its path from there."""
        if image.uri not in self.names:
            data, suffix = encode_image(image)
            name = f"{len(self.names):06d}.{suffix}"
            with explain_write_errors(self.folder / name):
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(data)
            self.names[image.uri] = name
        return f"{self.folder.name}/{self.names[image.uri]}"
