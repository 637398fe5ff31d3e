"""The images of a request: data: URLs, and what this server may fetch or read for a client."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from p2r.errors import DataError, ImageError, count_nouns
from p2r.images.find import DATA, FILE, EncodedImage
from p2r.images.load import read_image_size
from p2r.images.unpack import unpack
from p2r.images.web import WEB
from p2r.serving.fetch import Fetcher
from p2r.serving.refusal import BAD_REQUEST, Refused
from p2r.serving.settings import Access, Limits

ABSENT = "is not a file that this server reads"


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Reads the images that URLs name, within limits."""

    access: Access
    limits: Limits
    fetcher: Fetcher

    def read(self, urls: list[str], names: str = "image {}") -> list[EncodedImage]:
        """Return the images in order, not yet decoded. Blocks: call it in a thread.

        Args:
            names: their names in messages, with {} for a number.

        Raises:
            ImageError: an image is not one, cannot be had, or is too large.
            Refused: there are too many, or too many pixels.
        """
        if len(urls) > self.limits.num_images:
            raise Refused(
                BAD_REQUEST,
                f"the request has {count_nouns(len(urls), 'image')}; this server takes {self.limits.num_images}",
                param="messages",
            )
        images: list[EncodedImage] = []
        num_pixels = 0
        for number, url in enumerate(urls, start=1):
            name = names.format(number)
            data = self._read(url, name)
            width, height = read_image_size(io.BytesIO(data), name)
            num_pixels += width * height
            if num_pixels > self.limits.image_pixels:
                raise Refused(
                    BAD_REQUEST,
                    f"the images have more than {self.limits.image_pixels:,} pixels together",
                    param="messages",
                    code="image_too_large",
                )
            images.append(EncodedImage(data, name, self.limits.image_pixels))
        return images

    def _read(self, url: str, name: str) -> bytes:
        kind = url[:8].lower()
        if kind.startswith(DATA):
            return self._unpack(url, name)
        if kind.startswith(WEB):
            if not self.access.image_hosts:
                raise ImageError(f"{name} is a web address, and this server fetches none; send it as a data: URL")
            return self.fetcher.fetch(url, name)
        if kind.startswith(FILE) and self.access.image_folders:
            return self._read_file(url, name)
        raise ImageError(f"{name} is not a data: URL")

    def _unpack(self, url: str, name: str) -> bytes:
        try:
            data = unpack(url.encode("utf-8", "replace"))
        except DataError as error:
            raise ImageError(f"{name} {error.message}") from error
        self._check_size(len(data), name)
        return data

    def _read_file(self, url: str, name: str) -> bytes:
        """Return a file below an allowed folder. What is elsewhere and what does not exist are refused alike."""
        absent = ImageError(f"{name} {ABSENT}")
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise absent
        try:
            path = Path(unquote(parts.path)).resolve(strict=True)
            if not any(path.is_relative_to(folder.resolve()) for folder in self.access.image_folders):
                raise absent
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode):
                    raise absent
                self._check_size(facts.st_size, name)
                return file.read(self.limits.image_bytes)
        except (OSError, ValueError, RuntimeError) as error:
            raise absent from error

    def _check_size(self, num_bytes: int, name: str) -> None:
        if num_bytes > self.limits.image_bytes:
            raise ImageError(f"{name} has more than {self.limits.image_bytes / 1e6:g} MB")
