"""Is the answer right? One judge for each answer form; each gives a Verdict, or raises JudgeError when it cannot tell.

A reply that exists but cannot be read is wrong ("no answer"). A target that is missing or unusable, and a judging
model that says neither yes nor no, are errors: failed is not wrong.
"""

from __future__ import annotations

from p2r.dialogue import Model
from p2r.judges.model import ModelJudge
from p2r.judges.number import NumberJudge
from p2r.judges.rules import BoxJudge, ChoiceJudge, TextJudge
from p2r.prompts import PromptSet
from p2r.types import Judge, Sample

__all__ = ["BoxJudge", "ChoiceJudge", "ModelJudge", "NumberJudge", "TextJudge", "judge_for"]


def judge_for(sample: Sample, model: Model | None = None, prompts: PromptSet | None = None) -> Judge:
    """The judge for a sample's answer form. A free-form answer is judged by its words and, where these differ from the
    target's and there is a `model`, by that.

    Args:
        prompts: how a model is asked; the set `release` when None.
    """
    if sample.answer_form == "choice":
        return ChoiceJudge()
    if sample.answer_form == "number":
        return NumberJudge()
    return TextJudge() if model is None else ModelJudge(model, prompts)
