"""The image of a trace that was asked about in this process, for as long as its owner keeps it.

A trace holds the name of its image, which is enough for a file. An image in memory cannot be found by a name, so a
notebook finds it here. It is not kept alive: 100 traces must not hold 100 images.
"""

from __future__ import annotations

import weakref

from PIL import Image

from p2r.images.find import WrittenImage
from p2r.images.load import MemoryImage
from p2r.images.web import WebImage
from p2r.types import ImageSource, Trace

_images: dict[int, weakref.ref[Image.Image] | ImageSource] = {}
"""Images by the ids of living traces."""


def remember_image(trace: Trace, image: ImageSource) -> None:
    """Keep a weak reference to an image in memory, or the address of one on the web; a file is found by its name."""
    if isinstance(image, MemoryImage):
        _images[id(trace)] = weakref.ref(image.image)
    elif isinstance(image, (WebImage, WrittenImage)):
        _images[id(trace)] = image
    else:
        return
    weakref.finalize(trace, _images.pop, id(trace), None)


def recall_image(trace: Trace) -> ImageSource | None:
    """Return the image of a trace of this process; None where there is none, or where it is gone."""
    found = _images.get(id(trace))
    if not isinstance(found, weakref.ref):
        return found
    image = found()
    return None if image is None else MemoryImage(image, trace.image)
