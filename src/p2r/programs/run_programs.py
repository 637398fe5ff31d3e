"""Runs the programs of a chat in order, and tells what the last one shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from p2r.programs.canvas import Canvas
from p2r.programs.folder import Folder
from p2r.programs.repairs import is_refused, read_program
from p2r.programs.values import ProgramError
from p2r.programs.walk_tree import Walker

Shown = Canvas | str
"""An image, or a text."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Holds what a program showed, or why it failed: `error` is "" where it did not."""

    shown: Sequence[Shown] = ()
    error: str = ""


def run_programs(programs: Sequence[str], image: Image.Image, path: str, *, as_released: bool = False) -> Outcome:
    """Run programs, each with the names and images of those before it. Nothing is raised.

    Args:
        programs: those that succeeded before, and the one that is asked for.
        image: the image that they may open.
        path: its name.
        as_released: as the authors of Thyme run them; see `read_program` and `Walker`.
    """
    folder = Folder(image, path)
    walker = Walker(folder.make_toolbox(), {"image_path": path}, narrow=as_released)
    shown: Sequence[Shown] = ()
    for code in programs:
        had_path = "processed_path" in walker.names
        folder.printed.clear()
        try:
            if as_released and is_refused(code):
                raise ProgramError("the program has words that are refused")
            walker.walk(read_program(code, image.size, path, as_released=as_released))
            shown = folder.find_shown(code, None if had_path else walker.names.get("processed_path"))
        except Exception as error:
            return Outcome(error=str(error)[:500] or type(error).__name__)
    return (
        Outcome(shown) if shown else Outcome(error="the program shows nothing: print a result, or a path of an image")
    )
