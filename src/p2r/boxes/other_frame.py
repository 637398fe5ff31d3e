"""Count the replies whose boxes seem to be written in another frame, and say so where there are many.

`parse_boxes` leaves such boxes out. One of them is a slip; many mean that the frame of the model is another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from p2r.boxes.parse import FRAMES
from p2r.errors import FrameWarning, count_nouns, warn_user
from p2r.types import Frame, Perception, Trace

MANY = 0.05
"""The share of replies with boxes in another frame from which on it is said: one in twenty."""

Reader: TypeAlias = Literal["anyone", "python", "recipe"]
_STATED: Mapping[Reader, str] = {
    "anyone": '--frame {frame} (in Python, frame="{frame}")',
    "python": '`frame="{frame}"`, or its family with `family`',
    "recipe": 'model.frame = "{frame}"',
}
_UNSTATED: Mapping[Reader, str] = {
    "anyone": "--frame (in Python, frame=)",
    "python": "`frame`, or its family with `family`",
    "recipe": "model.frame",
}
"""The words in which each reader states a frame: a known one, and one that cannot be told."""


@dataclass(slots=True)
class FrameCount:
    """A count of replies by the frame of their boxes.

    num_replies: replies with boxes.
    others: those with a box that does not fit the frame in which it is read, by the frame in which such boxes seem to
        be written; None where that cannot be told.
    """

    num_replies: int = 0
    others: Counter[Frame | None] = field(default_factory=Counter["Frame | None"])

    def count(self, perceptions: Iterable[Perception | None]) -> FrameCount:
        """Count the replies of these, too, and return the whole."""
        for perception in perceptions:
            parse = perception.parse if perception else None
            if parse is None or parse.step == "none":
                continue
            self.num_replies += 1
            if parse.num_other_frame:
                self.others[parse.other_frame] += 1
        return self

    def add(self, other: FrameCount) -> None:
        """Add the counts of `other`."""
        self.num_replies += other.num_replies
        self.others.update(other.others)

    def explain(self, reader: Reader = "anyone") -> str:
        """Return a sentence when so many replies have boxes in another frame that theirs may be wrong; "" when not.

        Args:
            reader: who reads it, and so how the frame is stated.
        """
        num_others = self.others.total()
        if not num_others or num_others < MANY * self.num_replies:
            return ""
        frame = self.others.most_common(1)[0][0]
        looks = f" but look like {FRAMES[frame]}" if frame else ""
        stated = _STATED[reader].format(frame=frame) if frame else _UNSTATED[reader]
        replies = count_nouns(self.num_replies, "reply with boxes", "replies with boxes")
        return (
            f"{num_others} of {replies} {'has' if num_others == 1 else 'have'} numbers that do not fit the frame in "
            f"which they are read{looks}. Such boxes are left out; if the model writes them so, state its frame with "
            f"{stated}."
        )

    def warn(self, place: str = "") -> None:
        """Give a FrameWarning where there is something to explain; `place` is what was asked."""
        if sentence := self.explain("python"):
            warn_user(f"{place}: {sentence}" if place else sentence, FrameWarning)


def explain_frame(traces: Iterable[Trace]) -> str:
    """Return the sentence of `FrameCount.explain` about these traces."""
    return count_frames(traces).explain()


def count_frames(traces: Iterable[Trace]) -> FrameCount:
    """Count the replies with boxes of these traces."""
    return FrameCount().count(trace.perception for trace in traces)
