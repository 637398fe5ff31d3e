"""Lines 24 to 27 of algorithm 1: the reward of a rollout, named terms that are weighted and summed, or zero by a veto.

Paper: equation 3 rewards a right answer and nothing else: the set "paper". The authors' release also gives nothing
for boxes of which two overlap or one has no label: the set "release". Other terms are off unless a recipe weighs them.

Departures from the release: it reads the boxes literally once more, while here the very boxes count that the reasoner
is shown. Equal boxes, of which only the first is shown, still overlap. A label that is not text is a label (the release
crashes), and an untagged answer is never guessed from its first capital letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations

from p2r.boxes import iou
from p2r.config import RewardSettings
from p2r.evidence import MAX_CROPS
from p2r.training.groups import Rollout, SampledReply
from p2r.types import Perception, Trace

MAX_OVERLAP = 0.5
"""IoU above which two boxes count as the same place."""
PLACEHOLDER_LABELS = frozenset({"", "description", "<description>"})
"""The words that the prompts write where a label belongs."""
_TAGGED = re.compile(r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*", re.DOTALL)


def reward_reply(reply: SampledReply, trace: Trace | None, settings: RewardSettings, max_new_tokens: int) -> Rollout:
    """Line 26: the reply as a rollout with its reward r_i, which is None where it could not be judged.

    Args:
        trace: the walk that judged the reply; None when there was none.
        max_new_tokens: the limit that the reply was sampled with.
    """
    token_ids, terms = reply.generated.token_ids, dict(reply.terms)
    if trace is not None and trace.verdict is not None:
        terms["correct"] = float(trace.verdict.correct)
    failed = trace is None or trace.failure is not None
    reward = None if failed else total_reward(terms, settings, len(token_ids), max_new_tokens)
    if trace is not None and reply.asked.role == "perceiver":
        # Replies whose boxes are equal share a walk; labels and words are each reply's own.
        trace = trace.model_copy(update={"perception": reply.perception})
    return Rollout(token_ids, reply.generated.ended, reply.completion.text, trace, reward, terms)


def total_reward(
    terms: Mapping[str, float], settings: RewardSettings, num_tokens: int, max_new_tokens: int
) -> float | None:
    """The weighted sum of the terms, or 0 by a veto; None when a term that counts is unknown.

    Args:
        terms: of `box_terms` or `form_terms`, and the verdict under the name "correct".
        num_tokens: of the reply.
        max_new_tokens: the limit that it was sampled with.
    """
    weights, overlong = settings.active_weights, settings.overlong
    length = overlong * punish_length(num_tokens, max_new_tokens, settings.overlong_buffer) if overlong else 0
    if is_vetoed(terms, settings):
        return 0.0 + length
    if "correct" not in terms and weights.get("correct"):
        return None
    return sum(weight * terms.get(name, 0.0) for name, weight in weights.items()) + length


def is_vetoed(terms: Mapping[str, float], settings: RewardSettings) -> bool:
    """Tell whether a term makes the reward 0 whatever the answer, so that nobody has to be asked for it."""
    return any(terms.get(name) for name in settings.active_vetoes)


def box_terms(perception: Perception) -> dict[str, float]:
    """The terms of a box set.

    overlap_penalty, label_penalty: 1 where they hold.
    format: 1 for a reply that is valid JSON. count: 1 for one to three boxes, all of which are cut out.
    """
    parse, boxes = perception.parse, perception.boxes
    num_equal = parse.num_duplicates if parse else 0
    overlap = num_equal > 0 or any(iou(a, b) > MAX_OVERLAP for a, b in combinations(boxes, 2))
    unlabeled = any(box.label.strip().lower() in PLACEHOLDER_LABELS for box in boxes)
    return {
        "overlap_penalty": float(overlap),
        "label_penalty": float(unlabeled),
        "format": float(parse is not None and parse.step == "strict"),
        "count": float(1 <= len(boxes) <= MAX_CROPS),
    }


def form_terms(text: str) -> dict[str, float]:
    """The terms of an answer's form. format: 1 for a thought and an answer in their tags, and nothing else."""
    return {"format": float(_TAGGED.fullmatch(text) is not None)}


def punish_length(num_tokens: int, max_new_tokens: int, buffer: float) -> float:
    """DAPO's soft punishment (arXiv 2503.14476, equation 13): 0 up to the buffer, -1 at the limit, a line between."""
    room = buffer * max_new_tokens
    return min(0.0, max(-1.0, (max_new_tokens - room - num_tokens) / room))
