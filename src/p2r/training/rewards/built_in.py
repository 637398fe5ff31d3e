"""The terms that come with p2r, apart from `correct`, which is the verdict on the answer.

overlap_penalty, label_penalty: 1 for boxes of which two overlap by more than MAX_OVERLAP or one has no label. The
authors' release gives nothing for such a reply. It reads the boxes literally once more, while here the very boxes count
that the reasoner is shown. Equal boxes, of which only the first is shown, still overlap. A label that is not text is a
label (the release crashes).
format: 1 for boxes that are valid JSON, or for an answer of a thought and an answer in their tags, and nothing else.
count: 1 for one to three boxes, all of which are cut out.
box_iou, box_f1: how well the boxes fit the row's gold boxes, matched one to one. Where the row says that there is
nothing to find, 1 for a reply that says so with an empty list, and 0 for any other. Not in the paper or the release.

Of answers, as PeBR-R1 (arXiv 2509.13031) rewards them:

keywords: the share of the row's key words that occur in the reply, as parts of words too; capitals do not count.
sections: 1 for a reply with all headings of the prompt set `pebr_r1`.
length: 1 up to `LONG_ENOUGH` tokens, then `LONG_ENOUGH` over the number of tokens.
caption_similarity: how well the description in the reply fits the image; see `captions`.
"""

from __future__ import annotations

import re
from itertools import combinations

from p2r.answers.sections import has_all_sections
from p2r.boxes import iou, matched_f1, matched_iou
from p2r.evidence import MAX_CROPS
from p2r.types import Perception, Sample

MAX_OVERLAP = 0.5
"""IoU above which two boxes count as the same place."""
PLACEHOLDER_LABELS = frozenset({"", "description", "<description>"})
"""The words that the prompts write where a label belongs."""
LONG_ENOUGH = 512
"""The tokens of a reply beyond which `length` falls: PeBR-R1's."""
_TAGGED = re.compile(r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*", re.DOTALL)


def box_terms(perception: Perception) -> dict[str, float]:
    """The terms of a box set that need no gold boxes."""
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


def gold_terms(perception: Perception, sample: Sample) -> dict[str, float]:
    """The terms that compare a box set with the row's gold boxes; none where these are not known."""
    if sample.gold_boxes:
        return {
            "box_iou": matched_iou(perception.boxes, sample.gold_boxes),
            "box_f1": matched_f1(perception.boxes, sample.gold_boxes),
        }
    return dict.fromkeys(("box_iou", "box_f1"), float(says_nothing_there(perception))) if sample.nothing_there else {}


def says_nothing_there(perception: Perception) -> bool:
    """Tell whether a reply is an empty list of boxes, and not one whose boxes cannot be used or read."""
    parse = perception.parse
    if perception.boxes or parse is None or parse.step == "none":
        return False
    return not (parse.num_invalid or parse.num_other_frame or parse.num_over_cap)


def form_terms(text: str) -> dict[str, float]:
    """The term of an answer's form."""
    return {"format": float(_TAGGED.fullmatch(text) is not None)}


def answer_terms(text: str, sample: Sample, num_tokens: int) -> dict[str, float]:
    """The terms of an answer's words; `keywords` is not known where the row has no key words.

    Args:
        num_tokens: of the reply, its end token included.
    """
    terms = {"sections": float(has_all_sections(text)), "length": LONG_ENOUGH / max(num_tokens, LONG_ENOUGH)}
    if sample.key_words:
        lower = text.lower()
        terms["keywords"] = sum(word.lower() in lower for word in sample.key_words) / len(sample.key_words)
    return terms
