"""What was found out about a server: findings with consequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from p2r.doctor.charts import to_url
from p2r.models.server.measured import MeasuredProfile

State = Literal["good", "note", "bad", "unknown"]
"""good: as it should be. note: works, with a limit to know of. bad: results would be wrong. unknown: not found out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out.

    subject: what was examined, such as "formats".
    says: a sentence.
    so: what follows from it, or what to do; "" where nothing does.
    """

    subject: str
    state: State
    says: str
    so: str = ""


@dataclass(slots=True)
class Measurements:
    """Collects what is known so far, for the checks that come later.

    profile: what goes into the file.
    text_tokens: of `patient.TEXT` alone; None where the server counts nothing.
    kind: the format in which images are sent.
    side: of a square image that it sees as it was sent, in pixels.
    card_side: of a small one, for prompts with several, in pixels.
    sees_boxes: whether its boxes can be read.
    repeats: whether its greedy replies are the same each time.
    """

    profile: MeasuredProfile
    text_tokens: int | None = None
    kind: str = "png"
    side: int = 256
    card_side: int = 256
    sees_boxes: bool = False
    repeats: bool = True

    def url(self, image: Image.Image) -> str:
        """Write an image into a URL."""
        return to_url(image, self.kind)


@dataclass(frozen=True, slots=True)
class Examination:
    """A server, as it was found.

    num_asked: requests that it took.
    """

    profile: MeasuredProfile
    findings: Sequence[Finding] = field(default_factory=list[Finding])
    num_asked: int = 0

    @property
    def is_fit(self) -> bool:
        """Tell whether nothing bad was found."""
        return all(each.state != "bad" for each in self.findings)
