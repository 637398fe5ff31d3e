"""The profile of a served model as `p2r doctor` has measured it: a file that `--profile` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from p2r.dialogue import ModelProfile
from p2r.errors import ConfigError, reason_of
from p2r.files import explain_write_errors, replace_file
from p2r.models.profiles import FamilyName, limit_profile
from p2r.types import Frame, Frozen


class MeasuredProfile(Frozen, extra="forbid"):
    """Holds what was found out about a served model; None where it could not be.

    measured: which file this is, and its version.
    url, model, date: of the server that was examined.
    family: by the size of a visual token.
    frame: the frame in which it writes boxes.
    factor: the side of a visual token, in pixels.
    min_pixels, max_pixels: images between these are left as they are.
    most_images: in one prompt; more were not tried.
    context: most tokens of a prompt and its reply together.
    image_formats: those that it reads.
    num_logprobs: likeliest first tokens that it lists.
    """

    measured: Literal["p2r doctor 1"] = "p2r doctor 1"
    url: str
    model: str
    date: str
    family: FamilyName | None = None
    frame: Frame | None = None
    factor: int | None = Field(default=None, ge=1)
    min_pixels: int | None = Field(default=None, ge=1)
    max_pixels: int | None = Field(default=None, ge=1)
    most_images: int | None = None
    context: int | None = None
    image_formats: tuple[str, ...] = ()
    num_logprobs: int | None = None

    def save(self, path: Path) -> None:
        """Write the file, and the folder around it. Raises StorageError."""
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, self.model_dump_json(indent=2) + "\n")

    def profile(
        self, *, family: FamilyName | None = None, frame: Frame | None = None, max_pixels: int | None = None
    ) -> ModelProfile:
        """Return the profile by which images are sized and boxes read; the arguments count before what was measured."""
        limits = (self.min_pixels, self.max_pixels)
        return limit_profile(
            family or self.family, limits, frame=frame or self.frame, max_pixels=max_pixels, for_server=True
        )


def read_measured(path: Path) -> MeasuredProfile:
    """Read the file. Raises ConfigError for one that `p2r doctor` has not written."""
    try:
        return MeasuredProfile.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = "it was not written by `p2r doctor`" if isinstance(error, ValueError) else reason_of(error)
        raise ConfigError(
            f"`profile` is {str(path)!r}, which cannot be used: {why}",
            hint="write it with `p2r doctor URL`, or give a checkpoint's folder or the name of a known model",
        ) from error
