"""Judge a free-form answer by a model, which has to say yes or no. It is not asked about equal words."""

from __future__ import annotations

from p2r.dialogue import Decoding, Model, Prompt
from p2r.judges.rules import NO_ANSWER, TextJudge, target_of
from p2r.judges.yes_or_no import read_yes_or_no
from p2r.prompts import PromptSet, load_prompt_set
from p2r.types import Answer, Box, Sample, Verdict

DECODING = Decoding(max_new_tokens=512)


class ModelJudge:
    """Asks a model whether the answer means the same as the target, where the words differ.

    The model sees the question, not the image.

    Args:
        prompts: the set with the judging prompt (judge.txt); `release` when None.
    """

    def __init__(self, model: Model, prompts: PromptSet | None = None, *, decoding: Decoding = DECODING) -> None:
        self._model = model
        self._prompts = prompts or load_prompt_set()
        self._decoding = decoding

    async def __call__(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict:
        """Judge an answer. Raises JudgeError without a target or a clear yes or no, ModelError without a reply."""
        judge = f"model:{self._model.name}"
        target_of(sample)
        if answer.text is None:
            return Verdict(correct=False, score=0.0, judge=judge, reason=NO_ANSWER)
        by_words = TextJudge().compare(sample, answer, boxes)
        if by_words.correct:
            return by_words
        prompt = Prompt(
            role="judge",
            system=self._prompts.system,
            text=self._prompts.judge(sample, answer.text),
            images=(),
            fingerprint=self._prompts.fingerprint,
        )
        completion = await self._model.complete(prompt, self._decoding)
        correct = read_yes_or_no(completion)
        return Verdict(
            correct=correct,
            score=float(correct),
            judge=judge,
            reason=f"replied {completion.text.strip()[:80]!r}",
            completion=completion,
        )
