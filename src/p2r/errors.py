"""What can go wrong, by cause.

Every error that may reach a user is a `P2RError`: one sentence that names the value, and a hint that says what to do.
Code raises at the cause; only `pipeline.walk` records an error on a trace, and only the command prints one.
"""


class P2RError(Exception):
    """A failure with a message for the user and, where one helps, a hint."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


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


def excerpt(value: object, max_chars: int = 60, *, keeps_end: bool = False) -> str:
    """Quote a value for a message: as Python writes it, cut to `max_chars` characters without the quotes.

    Args:
        keeps_end: cut off the beginning instead of the end.
    """
    text = value if isinstance(value, str) else repr(value)
    if len(text) > max_chars:
        text = f"...{text[3 - max_chars :]}" if keeps_end else f"{text[: max_chars - 3]}..."
    return repr(text) if isinstance(value, str) else text
