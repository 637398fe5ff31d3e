"""Whether the boxes of a run seem to be written in another frame, said once."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2r.boxes.other_frame import FrameCount
from p2r.evaluation.asking import MIN_TRIED

SLIPS = 1
"""So many replies may be slips of sampling, such as a digit too many: they are counted, and nothing is said."""


@dataclass(slots=True)
class FrameWatch:
    """Counts the replies with boxes since a run was started or resumed."""

    frames: FrameCount = field(default_factory=FrameCount)
    has_spoken: bool = False

    def note(self, frames: FrameCount, *, is_last: bool) -> str:
        """Count the replies of a step, and return the sentence that is to be said now; "" for none.

        Args:
            is_last: of its phase, where few replies have to do. Else a sentence waits for MIN_TRIED of them.
        """
        self.frames.add(frames)
        if self.has_spoken or self.frames.others.total() <= SLIPS:
            return ""
        if not is_last and self.frames.num_replies < MIN_TRIED:
            return ""
        sentence = self.frames.explain("recipe")
        self.has_spoken = bool(sentence)
        return sentence
