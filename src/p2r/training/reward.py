"""What a rollout is rewarded for: named terms, weighted and summed, or zero where a veto holds.

Paper: equation 3, the answer is right or not: the set "paper". The authors' release besides gives nothing for boxes of
which two overlap or one has no label: the set "release". Other terms are off unless a recipe weighs them.

Departures from the release: it looks at its own literal reading of the boxes, here the very boxes count that the
reasoner is shown. Equal boxes, of which only the first is shown, are an overlap all the same. A label that is no text
is a label (the release crashes), and an untagged answer is never guessed from its first capital letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from p2r.boxes import iou
from p2r.config import RewardSettings, Term
from p2r.types import Perception

MOST_OVERLAP = 0.5
"""IoU of two boxes above which they count as the same place twice."""
PLACEHOLDER_LABELS = frozenset({"", "description", "<description>"})
"""What the prompts write where a label belongs."""
MOST_CROPS = 3
"""Boxes that are cut out; the others are drawn only."""
_TAGGED = re.compile(r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*", re.DOTALL)

SETS: Mapping[Literal["release", "paper"], tuple[Mapping[Term, float], frozenset[Term]]] = {
    "paper": ({"correct": 1.0}, frozenset()),
    "release": ({"correct": 1.0}, frozenset({"overlap_penalty", "label_penalty"})),
}
"""Weights and vetoes."""


@dataclass(frozen=True, slots=True)
class Reward:
    """How terms become one number.

    weights: of the terms that are summed.
    vetoes: terms that, where they are not 0, make the reward 0, whatever the answer: nobody is asked for it.
    overlong: weight of the punishment of replies that come near the limit; overlong_buffer says how near.
    """

    weights: Mapping[Term, float]
    vetoes: frozenset[Term] = field(default_factory=frozenset[Term])
    overlong: float = 0.0
    overlong_buffer: float = 0.2

    @property
    def needs_answer(self) -> bool:
        """Whether the answer counts at all."""
        return bool(self.weights.get("correct"))

    def is_vetoed(self, terms: Mapping[str, float]) -> bool:
        return any(terms.get(name) for name in self.vetoes)

    def total(self, terms: Mapping[str, float], num_tokens: int, max_new_tokens: int) -> float | None:
        """The reward; None when a term that counts is not known.

        Args:
            terms: of `judge_perception`, `judge_reply` and, under the name "correct", the verdict.
            num_tokens: of the reply.
            max_new_tokens: the limit it was sampled with.
        """
        length = self.overlong * punish_length(num_tokens, max_new_tokens, self.overlong_buffer) if self.overlong else 0
        if self.is_vetoed(terms):
            return 0.0 + length
        if "correct" not in terms and self.needs_answer:
            return None
        return sum(weight * terms.get(name, 0.0) for name, weight in self.weights.items()) + length


def build_reward(settings: RewardSettings) -> Reward:
    """The reward that a recipe asks for."""
    weights, vetoes = SETS[settings.set]
    return Reward(
        weights=dict(settings.weights) if settings.weights is not None else weights,
        vetoes=frozenset(settings.vetoes) if settings.vetoes is not None else vetoes,
        overlong=settings.overlong,
        overlong_buffer=settings.overlong_buffer,
    )


def judge_perception(perception: Perception) -> dict[str, float]:
    """The terms of a box set.

    overlap_penalty, label_penalty: 1 where they hold.
    format: 1 for a reply that is JSON as it stands. count: 1 for one to three boxes, all of which are cut out.
    """
    parse, boxes = perception.parse, perception.boxes
    num_equal = parse.num_duplicates if parse else 0
    overlap = num_equal > 0 or any(iou(a, b) > MOST_OVERLAP for a, b in combinations(boxes, 2))
    unlabeled = any(box.label.strip().lower() in PLACEHOLDER_LABELS for box in boxes)
    return {
        "overlap_penalty": float(overlap),
        "label_penalty": float(unlabeled),
        "format": float(parse is not None and parse.step == "strict"),
        "count": float(1 <= len(boxes) <= MOST_CROPS),
    }


def judge_reply(text: str) -> dict[str, float]:
    """The terms of an answer's form. format: 1 for a thought and an answer in their tags, and nothing else."""
    return {"format": float(_TAGGED.fullmatch(text) is not None)}


def punish_length(num_tokens: int, max_new_tokens: int, buffer: float) -> float:
    """DAPO's soft punishment (arXiv 2503.14476, equation 13): 0 up to the buffer, -1 at the limit, a line between."""
    room = buffer * max_new_tokens
    return min(0.0, max(-1.0, (max_new_tokens - room - num_tokens) / room))
