"""What the authors of Thyme mend in a program before it runs, and what they refuse; and its syntax tree.

Source: yfzhang114/Thyme at b9285b7 (Apache-2.0), `sandbox.py`. Not here: autopep8, which mends more of the indentation
that Python refuses. Their clamping of slices looks for `ast.Index`, which Python has not made since 3.9, so it is not
here either. Their mending of the first line breaks a program that is a single block; ours leaves what is Python.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Sequence

from p2r.programs.values import ProgramError

LEAST_SIDE_PX = 64
"""The least side of a clamped box."""
MOST_CHARS = 20_000

_CORNERS = {"x1", "y1", "x2", "y2", "left", "top", "right", "bottom"}
_BOXES = {
    "crop_box",
    "bbox",
    "box",
    "coordinates",
    "coords",
    "crop_coords",
    "left_crop_coords",
    "right_crop_coords",
} | {*("top_crop_coords", "bottom_crop_coords")}
_REFUSED = re.compile(
    r"\b(sys|socket|subprocess)\.|\b(exec|eval|compile|__import__)\(|\bos\.(remove|unlink|rmdir|renames?)\b"
    r"|\bshutil\.(rmtree|move)\b",
    re.IGNORECASE,
)


def is_refused(code: str) -> bool:
    """Tell whether the authors' check refuses a program by its text alone."""
    return _REFUSED.search(code) is not None


def read_program(code: str, image_wh: tuple[int, int], path: str, *, as_released: bool = False) -> ast.Module:
    """Return the mended syntax tree of a program.

    Args:
        image_wh: the width and height of the given image in pixels.
        path: the name of the given image.
        as_released: the first line is indented as the second in every program, and numbers are written with eight
            digits where the program asks for another number of them.

    Raises:
        ProgramError: the program is too long, or not Python.
    """
    if len(code) > MOST_CHARS:
        raise ProgramError(f"a program has at most {MOST_CHARS:,} characters here")
    aligned = textwrap.dedent(_align(code)).strip()
    try:
        tree = ast.parse(re.sub(r":\.\d{1}f}", ":.8f}", aligned) if as_released else _find_python(code, aligned))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ProgramError(f"the program is not Python: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            _mend(node, image_wh, path)
    return tree


def clamp_box(box: Sequence[float], image_wh: tuple[float, float]) -> list[float]:
    """Return a box within the image, with a least side of 64 pixels where the image has as many."""
    (x1, y1, x2, y2), (width, height) = box, image_wh
    left, right = _clamp(min(x1, x2), max(x1, x2), float(width))
    top, bottom = _clamp(min(y1, y2), max(y1, y2), float(height))
    return [left, top, right, bottom]


def _clamp(start: float, end: float, length: float) -> tuple[float, float]:
    start, end = min(max(0.0, start), length - 1), min(max(0.0, end), length)
    if end - start >= LEAST_SIDE_PX:
        return start, end
    if length < LEAST_SIDE_PX:
        return 0.0, length
    start = start if start < end else max(0.0, end - 1)
    end = min(start + LEAST_SIDE_PX, length)
    return end - LEAST_SIDE_PX, end


def _mend(node: ast.Assign, image_wh: tuple[int, int], path: str) -> None:
    """Clamp a box of four numbers, and replace an invented path of the image."""
    match node.targets[0], node.value:
        case ast.Name(id="image_path"), ast.Constant(value=str(found)) if found != path:
            node.value = ast.Constant(path)
        case (ast.Name(id=name), ast.Tuple(elts=elts)) if name in _BOXES and len(elts) == 4:
            _clamp_numbers(elts, image_wh)
        case (ast.Tuple(elts=targets), ast.Tuple(elts=elts)) if len(targets) == len(elts) == 4:
            names = [target.id.lower() for target in targets if isinstance(target, ast.Name)]
            if len(names) == 4 and not _CORNERS.isdisjoint(names):
                _clamp_numbers(elts, image_wh)
        case _:
            pass


def _clamp_numbers(elts: list[ast.expr], image_wh: tuple[int, int]) -> None:
    numbers = [elt.value for elt in elts if isinstance(elt, ast.Constant) and isinstance(elt.value, (int, float))]
    if len(numbers) != 4:  # a number with a sign is an expression, which the authors leave
        return
    clamped = [round(number) for number in clamp_box(numbers, image_wh)]
    if clamped != [round(number) for number in numbers]:
        elts[:] = [ast.Constant(number) for number in clamped]


def _find_python(code: str, aligned: str) -> str:
    try:
        ast.parse(textwrap.dedent(code).strip())
    except SyntaxError:
        return aligned
    return textwrap.dedent(code).strip()


def _align(code: str) -> str:
    """Give the first line the indentation of the second."""
    lines = code.splitlines()
    filled = [number for number, line in enumerate(lines) if line.strip()][:2]
    if len(filled) < 2:
        return code
    first, second = (lines[number] for number in filled)
    lines[filled[0]] = second[: len(second) - len(second.lstrip(" "))] + first.lstrip(" ")
    return "\n".join(lines)
