"""Judges that follow a rule: a choice's letter, a text's words, a box's overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from p2r.boxes import iou
from p2r.errors import JudgeError, excerpt
from p2r.judges.words import say_the_same
from p2r.types import LETTERS, Answer, Box, Sample, Verdict

NO_ANSWER = "no answer"


def target_of(sample: Sample) -> str:
    """Return the right answer.

    Raises:
        JudgeError: there is none.
    """
    if sample.target is None or not sample.target.strip():
        raise JudgeError(
            f"sample {sample.id!r} has no target to judge an answer by",
            hint="give it the right answer as target, or run without a judge",
        )
    return sample.target.strip()


class RuleJudge:
    """A judge that asks no model: `compare` returns its verdict at once, and awaiting it gives the same."""

    __slots__ = ()

    def compare(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Compare an answer, or the boxes, with the sample's target.

        Raises:
            JudgeError: the rule cannot tell.
        """
        raise NotImplementedError

    async def __call__(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Do what `compare` does."""
        return self.compare(sample, answer, boxes)


@dataclass(frozen=True, slots=True)
class ChoiceJudge(RuleJudge):
    """An answer is right when its letter is the target's. A letter that no option has is wrong."""

    def compare(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Judge an answer. Raises JudgeError when the target is not the letter of an option."""
        target = target_of(sample).upper()
        letters = LETTERS[: len(sample.options)] if sample.options else LETTERS
        if len(target) != 1 or target not in letters:
            raise JudgeError(
                f"the target of sample {sample.id!r} is {sample.target!r}, which is not the letter of an option",
                hint=f"write one of {', '.join(letters)}",
            )
        if answer.letter is None:
            reason = NO_ANSWER if answer.text is None else f"{excerpt(answer.text)} is not an option"
            return _verdict("choice", correct=False, reason=reason)
        correct = answer.letter == target
        return _verdict("choice", correct=correct, reason="" if correct else f"{answer.letter} instead of {target}")


@dataclass(frozen=True, slots=True)
class TextJudge(RuleJudge):
    """An answer is right when its words are the target's; `p2r.judges.words` says what does not matter."""

    def compare(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Judge an answer. Raises JudgeError without a target."""
        target = target_of(sample)
        if answer.text is None:
            return _verdict("text", correct=False, reason=NO_ANSWER)
        correct = say_the_same(answer.text, target)
        reason = "" if correct else f"{excerpt(answer.text)} instead of {excerpt(target)}"
        return _verdict("text", correct=correct, reason=reason)


@dataclass(frozen=True, slots=True)
class BoxJudge(RuleJudge):
    """Boxes are right when one overlaps a gold box by at least `iou`, as in Acc@0.5 (ReasonSeg).

    The score is that overlap.

    which: judge only the first box, or the best one.
    """

    iou: float = 0.5
    which: Literal["first", "best"] = "first"

    def compare(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Judge boxes. Raises JudgeError without gold boxes."""
        if not sample.gold_boxes:
            raise JudgeError(
                f"sample {sample.id!r} has no gold box to judge a box by",
                hint="give it gold_boxes, or judge its answer",
            )
        judge = f"box@{self.iou:g}"
        if not boxes:
            return _verdict(judge, correct=False, reason="no box")
        candidates = boxes[:1] if self.which == "first" else boxes
        overlap = max(iou(box, gold) for box in candidates for gold in sample.gold_boxes)
        return Verdict(correct=overlap >= self.iou, score=overlap, judge=judge, reason=f"IoU {overlap:.3f}")


def _verdict(judge: str, *, correct: bool, reason: str) -> Verdict:
    return Verdict(correct=correct, score=float(correct), judge=judge, reason=reason)
