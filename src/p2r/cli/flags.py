"""Name arguments as the command line does.

Messages and hints write arguments once, as Python names them, in backticks: "lower `max_pixels`", "give `seed=1`". That
is what a Python caller reads. A command prints its own flags in their place: "lower --max-pixels", "give --seed 1"; and
`p2r train`, whose settings are those of a recipe: "lower model.max_pixels", "give --set seed=1". A name that the
command has no flag for stays as it is.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Mapping
from typing import cast, get_type_hints

from typer.models import OptionInfo

_NAMED = re.compile(r"`([a-z]\w*)(?:=([^`]+))?`")
_CHANGES = "changes"
SETTINGS = {
    "image_check": "partner.image_check",
    "frame": "model.frame",
    "images": "data.images",
    "max_pixels": "model.max_pixels",
    "num_at_once": "partner.concurrency",
    "num_samples": "data.num_rows",
    "out": "out",
    "reasoner_new_tokens": "partner.max_new_tokens",
    "seed": "seed",
    "skip_bad": "data.skip_bad",
    "split": "data.split",
    "timeout_s": "partner.timeout_s",
    "transport": "partner.transport",
}
"""The settings of a recipe that take the place of an argument in `p2r train`."""


def find_flags(command: Callable[..., object]) -> dict[str, str]:
    """Return the flag of each option of a command, by the name of its parameter."""
    flags: dict[str, str] = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        for info in cast("tuple[object, ...]", getattr(hint, "__metadata__", ())):
            if isinstance(info, OptionInfo):
                # Inside Annotated, typer takes the first declaration for the default.
                given: tuple[object, ...] = (info.default, *(info.param_decls or ()))
                flags[name] = next(
                    (text for text in given if isinstance(text, str) and text.startswith("--")),
                    f"--{name.replace('_', '-')}",
                )
    return flags


def write_flags(text: str, flags: Mapping[str, str]) -> str:
    """Return a message or hint with the flags of a command in place of the arguments that it names."""

    def write(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        if name in flags:
            return flags[name] if value in (None, "True") else f"{flags[name]} {_write_value(value)}"
        if _CHANGES in flags and name in SETTINGS:
            setting = SETTINGS[name]
            return setting if value is None else f"{flags[_CHANGES]} {setting}={_write_value(value)}"
        return found[0]

    return _NAMED.sub(write, text)


def _write_value(text: str) -> str:
    """Return a value as a shell takes it. What Python cannot read as a value, such as FOLDER, stays as it is."""
    try:
        value = cast(object, ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text
    if isinstance(value, list):
        return ",".join(shlex.quote(str(item)) for item in cast("list[object]", value))
    return shlex.quote(str(value))
