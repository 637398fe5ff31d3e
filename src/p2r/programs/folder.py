"""The folder of a program: the image that was given, what was saved, and what was printed. Nothing is on a disk."""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from p2r.programs import pillow_functions, plain_functions
from p2r.programs.canvas import MOST_PIXELS, WHOLE_REGION, Canvas, combine, put, take, to_bytes
from p2r.programs.cv2_functions import CV2, LocalEqualizer
from p2r.programs.values import MOST_WEIGHT, ProgramError, Toolbox, Value

SAVED_IN = "/mnt/data/temp_processed_images/"
"""The folder in which programs are told to save images."""
MOST_SAVED = 16
_PATH = re.compile(r"[^\s'\"]+\.(?:jpg|jpeg|png|bmp|gif|tiff)")
_INSIDE = re.compile(re.escape(SAVED_IN) + _PATH.pattern)
_IMAGE_NAME = re.compile(r"[^\n]{1,500}\.(?:jpe?g|png|bmp|gif|tiff?|webp)", re.IGNORECASE)
READY = {
    **{name: name for name in ("os", "random", "string", "math", "cv2", "PIL", "numpy")},
    "Image": "PIL.Image",
    "np": "numpy",
    **dict.fromkeys(("cv", "cv3", "cv4", "CV"), "cv2"),
}
"""Names without an import, as the authors of Thyme offer them and mend them."""


@dataclass(slots=True)
class Folder:
    """Holds what a chat's programs open, save, and print.

    path: the name of the given image.
    saved: images by the paths under which they were saved, as RGB.
    printed: what the last program printed.
    """

    given: Image.Image
    path: str
    saved: dict[str, Canvas] = field(default_factory=dict[str, Canvas])
    printed: list[str] = field(default_factory=list[str])

    def make_toolbox(self) -> Toolbox:
        """Return what is offered to the programs of this folder."""
        functions = {
            **plain_functions.make_functions(),
            **{f"cv2.{name}": function for name, function in CV2.items()},
            **{f"PIL.{name}": function for name, function in pillow_functions.PILLOW.items()},
            **{f"numpy.{name}": function for name, function in pillow_functions.NUMPY.items()},
            "cv2.imread": self.read,
            "cv2.imwrite": self.write,
            "PIL.Image.open": self.open,
            "os.path.exists": lambda path: path == self.path or path in self.saved or SAVED_IN.startswith(path),
            "print": self.print,
            "__name__": "__main__",
        }
        return Toolbox(
            functions,
            {
                **plain_functions.METHODS,
                **pillow_functions.METHODS,
                (Canvas, "save"): lambda canvas, path, *_, **__: self.save(path, canvas, canvas.image),
                (LocalEqualizer, "apply"): LocalEqualizer.apply,
            },
            {**pillow_functions.PROPERTIES, (str, "hex"): lambda text: text},  # of what uuid4 returns
            READY,
            (Canvas, pillow_functions.Enhancer, pillow_functions.ImageFilterChoice, LocalEqualizer),
            combine,
            take,
            put,
        )

    def open(self, path: str) -> Canvas:
        """Return an image as Pillow opens it. Raises ProgramError."""
        if path == self.path:
            return Canvas(self.given, WHOLE_REGION)
        if path not in self.saved:
            raise ProgramError(f"there is no file {str(path)[:200]!r}")
        return self.saved[path]

    def read(self, path: str, flags: str = "COLOR") -> Canvas | None:
        """Return an image as cv2 reads it: None where there is no such file."""
        if path != self.path and path not in self.saved:
            return None
        found = self.open(path)
        if flags == "GRAY":
            return found.made(np.asarray(found.image.convert("L")))
        return found.made(np.asarray(found.image)[..., ::-1])

    def write(self, path: str, canvas: Canvas, params: Value = None) -> bool:
        """Save an array as cv2 does."""
        pixels = to_bytes(canvas.array)
        if pixels.ndim == 3:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        return self.save(path, canvas, Image.fromarray(pixels))

    def save(self, path: str, canvas: Canvas, image: Image.Image) -> bool:
        """Keep an image under a path. Raises ProgramError."""
        if not _IMAGE_NAME.fullmatch(path):
            raise ProgramError(f"an image cannot be saved as {str(path)[:200]!r}")
        if path not in self.saved and len(self.saved) >= MOST_SAVED:
            raise ProgramError(f"at most {MOST_SAVED} images can be saved")
        others = (kept.size for kept in (canvas, *(kept for name, kept in self.saved.items() if name != path)))
        if sum(width * height for width, height in others) > MOST_PIXELS:
            raise ProgramError(f"images with at most {MOST_PIXELS:,} pixels can be saved")
        self.saved[path] = canvas.made(image.convert("RGB"))
        return True

    def print(self, *values: Value, sep: str = " ", end: str = "\n", flush: Value = False) -> None:
        """Keep what is printed. Raises ProgramError for too much."""
        self.printed.append(sep.join(map(str, values)) + end)
        if sum(map(len, self.printed)) > MOST_WEIGHT:
            raise ProgramError(f"a program prints at most {MOST_WEIGHT:,} characters here")

    def find_shown(self, code: str, named: Value) -> Sequence[Canvas | str]:
        """Return what a program shows: the images whose paths it printed, else what else it printed; () for nothing.

        Args:
            code: the program.
            named: its variable `processed_path`.
        """
        printed = "".join(self.printed).strip()
        inside = [path for path in self.saved if path.startswith(SAVED_IN)]
        paths = [named] if isinstance(named, str) and named in inside else []
        matches: list[str] = _PATH.findall(printed)
        found: list[str] = _INSIDE.findall(printed)
        paths += [path for path in dict.fromkeys(found) if path in inside and path not in paths]
        if printed and not paths and len(inside) in (len(found), len(matches)):
            paths = inside
        if paths:
            return [self.saved[path] for path in paths]
        if not printed or SAVED_IN in code:
            return ()
        return [self.saved[printed]] if printed in self.saved else [printed]
