"""Judge a number by its value.

`p2r.answers.numbers` says what is a number: digits or words, with a factor, a percent sign or a unit, or a formula that
can be calculated. Values are compared exactly, and then to six decimals; units by their meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2r.answers.numbers import Number, explain_refusal, find_number, read_number
from p2r.errors import DataError, JudgeError, excerpt
from p2r.judges.rules import NO_ANSWER, RuleJudge, target_of
from p2r.types import Answer, Box, Sample, Verdict

_HINT = 'give one number, such as 5, 1/2 or 5 m, as the target, or set `answer_form="free_form"`'


@dataclass(frozen=True, slots=True)
class NumberJudge(RuleJudge):
    """An answer is right when its value equals the target's, exactly or to six decimals.

    Units are converted (5 m is 500 cm) and have to measure the same (5 m is not 5 kg). Where one side has none, or a
    thing that is counted, the values decide. `50%` is both 50 and 0.5 where the target has no percent sign.
    """

    def compare(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Judge an answer. Raises JudgeError when the target is not one number, whatever the answer is."""
        target = target_of(sample)
        right = read_number(target)
        if right is None:
            raise JudgeError(
                f"the target of sample {sample.id!r} is {explain_target(target)}",
                hint=_HINT,
            )
        if answer.text is None:
            return Verdict(correct=False, score=0.0, judge="number", reason=NO_ANSWER)
        correct = _is_right(answer.text, right)
        reason = "" if correct else f"{excerpt(answer.text.strip())} instead of {excerpt(target)}"
        return Verdict(correct=correct, score=float(correct), judge="number", reason=reason)


def check_target(target: str) -> None:
    """Raise DataError when answers cannot be compared with a target by value."""
    if read_number(target) is None:
        raise DataError(
            f"the target is {explain_target(target)}",
            hint='give one number, such as "5", "1/2" or "5 m", as the target, or set `answer_form="free_form"`',
        )


def explain_target(target: str) -> str:
    """Say in words what a target is that is not one number: "'5-6', which is a range and not a number"."""
    return f"{excerpt(target)}, which is {explain_refusal(target)}"


def _is_right(answer: str, right: Number) -> bool:
    found = find_number(answer)
    return found is not None and found.number.equals(right)
