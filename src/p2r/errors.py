"""What can go wrong, by cause.

Every error that may reach a user is a `P2RError`: one sentence that names the value, and a hint that says what to do.
Code raises at the cause; only `pipeline.walk` records an error on a trace, and only the command prints one.
"""

from __future__ import annotations

import inspect
import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class P2RError(Exception):
    """A failure with a message for the user and, where one helps, a hint."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(mask_secrets(message))
        self.message = mask_secrets(message)
        self.hint = mask_secrets(hint)

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class P2RWarning(UserWarning):
    """One sentence on what was guessed or may mislead, where nothing failed. The command prints it to stderr."""


class FrameWarning(P2RWarning):
    """Many boxes do not fit the frame in which they are read, so it may be wrong.

    For callers from Python: a command says it beside its results, and does not print this warning.
    """


class ImageError(P2RError):
    """An image is missing, broken, too large or of an impossible shape."""


class DataError(P2RError):
    """A question, an option list or a row of a file is not usable."""


class ConfigError(P2RError):
    """A setting, a prompt set or a command-line value is not usable."""


class EmptyCropError(P2RError):
    """A box covers no whole pixel of the image."""


class ModelError(P2RError):
    """A model cannot be loaded or cannot run."""


class EndpointError(ModelError):
    """A server did not give a usable reply (unreachable, refused, malformed, cut off)."""


class UnseenImageError(EndpointError):
    """A server saw other images than were sent: it merged, shrank, enlarged or left out some."""


class ToolError(P2RError):
    """A model's call of a tool is not usable. The model is told so and continues."""


class JudgeError(P2RError):
    """An answer could not be judged: it is neither right nor wrong."""


class TrainingError(P2RError):
    """Training cannot continue: a number is not finite, memory is short, a guard stops it, or too much fails."""


class StorageError(P2RError):
    """Results cannot be written or read back, or belong to another run."""


class TooManyErrors(P2RError):
    """A run was stopped because too large a share of its answers failed."""


_PACKAGE = str(Path(__file__).parent)


def warn_user(text: str, kind: type[P2RWarning]) -> None:
    """Warn, and name the line outside this package that it comes from, through however many calls within."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, kind, stacklevel=level)


def explain_fault(fault: ErrorDetails, rule: str = "") -> str:
    """Say in plain words what pydantic found wrong, such as "seed is 'x': it must be a whole number".

    Args:
        rule: what the value must be, where the caller knows it better.
    """
    # Where several types are allowed, pydantic adds the one that it tried to the place.
    name = ".".join(part for part in map(str, fault["loc"]) if part not in ("str", "int", "float") and "[" not in part)
    if fault["type"] == "missing":
        return f"{name or 'it'} is missing"
    if fault["type"] == "extra_forbidden":
        return f"{name or 'it'} is not a known name"
    rule = rule or _explain_rule(fault)
    is_whole = not name or fault["type"] == "json_invalid"
    return rule if is_whole else f"{name} is {excerpt(fault['input'])}: {rule}"


def _explain_rule(fault: ErrorDetails) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in _RULES:
        return f"it must be {_RULES[kind].format(**context)}"
    if kind == "too_short":
        least = context["min_length"]
        return f"it needs at least {least} {'entry' if least == 1 else 'entries'}"
    if kind == "json_invalid":
        return f"it is not JSON: {context['error']}"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return message[:1].lower() + message[1:]


_TABLE = "a table of names and values"
_RULES = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_too_short": "text, and not empty",
    "dict_type": _TABLE,
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "frozen_set_type": "a list",
    "greater_than": "above {gt:.10g}",
    "greater_than_equal": "at least {ge:.10g}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "below {lt:.10g}",
    "less_than_equal": "at most {le:.10g}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "mapping_type": _TABLE,
    "model_attributes_type": _TABLE,
    "model_type": _TABLE,
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
}


def install_hint(extra: str) -> str:
    """Say how to add an extra to this installation, from where it came: a clone, a repository, a file or the index."""
    name = f"perceive-to-reason[{extra}]"
    clone = Path(__file__).parents[2]
    if (clone / "pyproject.toml").is_file():
        return f"pip install '{'.' if clone == Path.cwd() else clone}[{extra}]'"
    from importlib.metadata import PackageNotFoundError, distribution  # slow to import, and seldom needed

    try:
        origin = json.loads(distribution("perceive-to-reason").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return f"pip install '{name}'"
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        return mask_secrets(f"pip install '{name} @ {origin['vcs_info']['vcs']}+{url}'")
    return mask_secrets(f"pip install '{name} @ {url}'") if url else f"pip install '{name}'"


def mask_secrets(text: str) -> str:
    """Return a text with *** for what is secret in its URLs: users with their passwords, and keys among parameters."""
    if "://" not in text:
        return text
    return _SECRET_PARAMETER.sub(r"\1***", _USER.sub(r"\1***@", text))


_USER = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#\s\"'<>]*@")
_SECRET_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:key|token|secret|password|passwd|pwd|signature|sig|credential|auth)=)[^&#\s\"'<>]+", re.IGNORECASE
)


def reason_of(error: Exception) -> str:
    """Say in plain words why something failed, such as "no such file or directory", without error numbers."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:] or type(error).__name__


def count_nouns(count: int, one: str, several: str = "") -> str:
    """Write a counted noun, such as "1 image" or "2 images".

    Args:
        one: the noun, with what agrees with it, as it reads after 1 ("image has").
        several: as it reads after any other number ("images have"); the noun with an s where left out.
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def excerpt(value: object, max_chars: int = 60, *, keeps_end: bool = False) -> str:
    """Quote a value for a message: as Python writes it, cut to `max_chars` characters without the quotes.

    Args:
        keeps_end: cut off the beginning instead of the end.
    """
    text = value if isinstance(value, str) else repr(value)
    if len(text) > max_chars:
        text = f"...{text[3 - max_chars :]}" if keeps_end else f"{text[: max_chars - 3]}..."
    return repr(text) if isinstance(value, str) else text
