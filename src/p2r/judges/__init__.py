"""Judges compare an answer with the target: one for each answer form, which gives a verdict or raises JudgeError.

A reply that exists but cannot be read is wrong ("no answer"). A target that is missing or unusable, and a judging model
that says neither yes nor no, are errors: failed is not wrong.
"""

from __future__ import annotations

from p2r.dialogue import Decoding, Model
from p2r.judges.model import DECODING, ModelJudge
from p2r.judges.number import NumberJudge
from p2r.judges.rules import BoxJudge, ChoiceJudge, RuleJudge, TextJudge
from p2r.prompts import PromptSet
from p2r.types import Judge, Sample

__all__ = ["BoxJudge", "ChoiceJudge", "ModelJudge", "NumberJudge", "RuleJudge", "TextJudge", "judge_for", "rule_for"]


def judge_for(
    sample: Sample, model: Model | None = None, prompts: PromptSet | None = None, *, decoding: Decoding = DECODING
) -> Judge:
    """Return the judge for a sample's answer form.

    A free-form answer is judged by its words and, where they differ from the target's, by `model` if there is one.

    Args:
        prompts: the set with the judging prompt; `release` when None.
        decoding: how the model replies.
    """
    if sample.answer_form == "free_form" and model is not None:
        return ModelJudge(model, prompts, decoding=decoding)
    return rule_for(sample)


def rule_for(sample: Sample) -> RuleJudge:
    """Return the judge for a sample's answer form that asks no model."""
    if sample.answer_form == "choice":
        return ChoiceJudge()
    return NumberJudge() if sample.answer_form == "number" else TextJudge()
