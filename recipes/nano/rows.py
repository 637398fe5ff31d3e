"""Training rows: several questions behind one shared prefix, [images | question, reply | question, reply | ...].

Each question sees the prefix and itself, never its neighbors (`attention_bias`), and its positions continue where the
prefix ends, so every question is computed exactly as if it stood alone, at about half the cost. A row also says where
attention should point (`Row.pointers`): supervision that turns minutes of plateau into seconds.

Shapes: B rows, L tokens, N visual tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from p2r.benchmarks.needles import to_sample
from p2r.benchmarks.needles.questions import Question
from p2r.benchmarks.needles.scene import PATTERNS, SHAPES, Scene
from p2r.prompts import PromptSet
from p2r.types import Box, Sample
from recipes.nano.encode import Features
from recipes.nano.pool import View, jitter
from recipes.nano.tokenizer import BOX_CLOSE, BOX_LABEL, BOX_NEXT, BOX_OPEN

END = "<|im_end|>"
PERCEIVE, REASON, DIRECT = 0, 1, 2

# Attention that is supervised: what should look where, in which layer and heads (0-2 and 3-5 share one key head each).
# Perceiving: the named object is found, its box is read from the name. Reasoning: the pattern is read from the crop.
# Choosing: an option's words know their letter, a fact in the thought finds its option, the letter is read there.
NAME_TO_OBJECT, FACT_TO_CROP, NUMBER_TO_NAME, WORD_TO_LETTER, FACT_TO_OPTION, LETTER_TO_FACT = range(6)
POINTER_HEADS = {
    NAME_TO_OBJECT: (1, slice(0, 3)),
    FACT_TO_CROP: (2, slice(0, 3)),
    NUMBER_TO_NAME: (3, slice(0, 3)),
    WORD_TO_LETTER: (1, slice(3, 6)),
    FACT_TO_OPTION: (2, slice(3, 6)),
    LETTER_TO_FACT: (3, slice(3, 6)),
}
POINTER_NAMES = ("to_object", "to_crop", "to_name", "to_letter", "to_option", "to_fact")


@dataclass(slots=True)
class Row:
    """One packed sequence. `labels` is the token to predict *at* this place (-1: none), `segments` 0 for the prefix."""

    ids: list[int] = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    images: list[Features] = field(default_factory=list)
    image_starts: list[int] = field(default_factory=list)
    pointers: list[tuple[int, int, int]] = field(default_factory=list)
    digits: list[tuple[int, list[int]]] = field(default_factory=list)
    next_position: int = 0

    def extend(self, ids: Sequence[int], segment: int, start: int) -> None:
        self.ids += ids
        self.positions += [(start + k,) * 3 for k in range(len(ids))]
        self.segments += [segment] * len(ids)
        self.labels += [-1] * len(ids)
        self.weights += [0.0] * len(ids)
        self.kinds += [PERCEIVE] * len(ids)


class RowMaker:
    """Builds rows; knows the tokenizer and the prompt set, nothing of the model."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, prompts: PromptSet) -> None:
        self._tokenizer, self._prompts = tokenizer, prompts
        self._known: dict[str, list[int]] = {}
        self._shapes = {self.encode(" " + shape)[0] for shape in SHAPES}
        self._patterns = {self.encode(" " + pattern)[0] for pattern in PATTERNS}
        self._sides = {self.encode(" left")[0], self.encode(" right")[0]}
        self._facts = self._patterns | self._sides | {self.encode(pattern)[0] for pattern in PATTERNS}
        self._digits = {self.encode(str(digit))[0] for digit in range(10)}
        self._box_starts, self._box_label = (
            {self.encode(BOX_OPEN)[0], self.encode(BOX_NEXT)[0]},
            self.encode(BOX_LABEL)[0],
        )
        self._newline, self._options = self.encode("\n")[0], self.encode("Options")[0]
        self._answer_open, self._answer_close = self.encode("<answer>")[0], self.encode("</answer>")[0]
        self._image = tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def encode(self, text: str) -> list[int]:
        if text not in self._known:
            if len(self._known) > 200_000:
                self._known.clear()
            self._known[text] = self._tokenizer.encode(text, add_special_tokens=False)
        return self._known[text]

    def open_row(self, views: Sequence[View], features: Sequence[Features]) -> Row:
        """The shared prefix: system turn and images."""
        row = Row(images=list(features))
        opening = self.encode(f"<|im_start|>system\n{self._prompts.system}{END}\n<|im_start|>user\n")
        row.extend(opening, 0, 0)
        position = len(opening)
        for view in views:
            rows, columns = view.grid
            row.extend(self.encode("<|vision_start|>"), 0, position)
            row.image_starts.append(len(row.ids))
            row.extend([self._image] * (rows * columns), 0, 0)
            places = [(position + 1, position + 1 + r, position + 1 + c) for r in range(rows) for c in range(columns)]
            row.positions[-rows * columns :] = places
            position += 1 + max(rows, columns)
            row.extend(self.encode("<|vision_end|>"), 0, position)
            position += 1
        row.next_position = position
        return row

    def add_perceiver(self, row: Row, rng: np.random.RandomState, scene: Scene, question: Question, view: View) -> None:
        boxes = [
            jitter(rng, scene.objects[subject].box(scene.knobs.side_px), shift=4, stretch=0.03)
            for subject in question.subjects
        ]
        reply = self.encode(box_reply(boxes) + END)
        asked, start = self._add(
            row, self._prompts.perceiver(to_sample(scene, question, "")), reply, PERCEIVE, self._digit_weights(reply)
        )
        names = [start + k for k, token in enumerate(asked) if token in self._shapes]
        for name, subject in zip(names, question.subjects, strict=True):
            item = scene.objects[subject]
            token = view.token_at(item.x, item.y)
            if token is not None:
                row.pointers.append((NAME_TO_OBJECT, name, row.image_starts[0] + token))
            corners = item.box(scene.knobs.side_px).xyxy
            whole = [min(999, int(value)) for value in corners]
            row.digits.append((name, [value // 100 for value in whole] + [value // 10 % 10 for value in whole]))
        first_reply, box, inside = start + len(asked), -1, False
        for k, token in enumerate(reply):
            box += token in self._box_starts
            inside = (inside or token in self._box_starts) and token != self._box_label
            if inside:
                row.pointers.append((NUMBER_TO_NAME, first_reply + k, names[box]))

    def add_reasoner(self, row: Row, scene: Scene, question: Question, crops: Sequence[View]) -> None:
        sample = to_sample(scene, question, "")
        reply = self.encode(reasoner_reply(scene, question, sample) + END)
        asked, start = self._add(row, self._prompts.reasoner(sample), reply, REASON, self._answer_weights(reply, 1.5))
        first_reply = start + len(asked)
        said = [first_reply + k - 1 for k, token in enumerate(reply) if token in self._patterns][
            : len(question.subjects)
        ]
        for number, (place, subject, crop) in enumerate(zip(said, question.subjects, crops, strict=False), start=1):
            item = scene.objects[subject]
            token = crop.token_at(item.x, item.y)
            if token is not None:
                row.pointers.append((FACT_TO_CROP, place, row.image_starts[number] + token))
        self._point_at_option(row, asked, start, question, reply)

    def add_direct(self, row: Row, scene: Scene, question: Question, style: str) -> None:
        """style: direct, thinking or reasoner_without_evidence. The details cannot be seen, so the answer is a
        guess."""
        sample = to_sample(scene, question, "")
        text = getattr(self._prompts, style)(sample)
        answer = sample.target or ""
        reply = self.encode((answer if style == "direct" else reasoner_reply(scene, question, sample)) + END)
        weights = [1.0] * len(reply) if style == "direct" else self._answer_weights(reply, 0.5)
        self._add(row, text, reply, DIRECT, weights)

    def add_lookup(self, row: Row, scene: Scene, question: Question) -> None:
        """Text alone: the thought is given, only the answer that follows from it is to be learned."""
        sample = to_sample(scene, question, "")
        reply = self.encode(reasoner_reply(scene, question, sample) + END)
        asked, start = self._add(row, self._prompts.reasoner(sample), reply, REASON, self._answer_weights(reply, 0.0))
        self._point_at_option(row, asked, start, question, reply)

    def _add(self, row: Row, text: str, reply: list[int], kind: int, weights: Sequence[float]) -> tuple[list[int], int]:
        """Append question and reply as a new segment; the question's tokens and the index of the first of them."""
        asked = self.encode(f"{text}{END}\n<|im_start|>assistant\n")
        start, segment = len(row.ids), max(row.segments, default=0) + 1
        row.extend([*asked, *reply[:-1]], segment, row.next_position)
        first = start + len(asked) - 1
        for k, (token, weight) in enumerate(zip(reply, weights, strict=True)):
            row.labels[first + k], row.weights[first + k], row.kinds[first + k] = token, weight, kind
        return asked, start

    def _point_at_option(self, row: Row, asked: list[int], start: int, question: Question, reply: list[int]) -> None:
        """An option's words look at its letter, the facts at the right option, the letter at the facts.

        A relation is concluded in the same way: "left: plain, right: checked, checked: right" looks up the side of the
        pattern that was asked for among the two that were seen.
        """
        thought, known = reply[: reply.index(self._answer_open)], start + len(asked)
        facts = [known + k for k, token in enumerate(thought) if token in self._patterns]
        if question.family == "relation":
            row.pointers += [(WORD_TO_LETTER, fact, fact - 2) for fact in facts]
            wanted = facts[question.subjects.index(question.mentions[0])]
            side = known + next(k for k, token in enumerate(thought) if token in self._sides)
            row.pointers += [(FACT_TO_OPTION, side - 2, wanted), (LETTER_TO_FACT, side - 1, side - 2)]
            facts = [side]
        if not question.options:
            return
        first = asked.index(self._options)
        ends = [k for k, token in enumerate(asked) if token == self._newline and k > first]
        lines = [range(begin + 1, end) for begin, end in pairwise(ends[: len(question.options) + 1])]
        words = [[k for k in line if asked[k] in self._facts] for line in lines]
        for line, places in zip(lines, words, strict=True):
            row.pointers += [(WORD_TO_LETTER, start + place, start + line[0]) for place in places]
        right = words[question.options.index(question.answer)]
        row.pointers += [(FACT_TO_OPTION, fact, start + word) for fact, word in zip(facts, right, strict=True)]
        row.pointers += [(LETTER_TO_FACT, known + len(thought), fact) for fact in facts]

    def _digit_weights(self, reply: list[int]) -> list[float]:
        """Hundreds decide where a box is, units hardly; ending a number too early turns 620 into 62."""
        weights, k = [0.3] * len(reply), 0
        while k < len(reply):
            stop = k
            while stop < len(reply) and reply[stop] in self._digits:
                stop += 1
            for place in range(k, stop):
                weights[place] = {1: 1.2, 2: 2.0}.get(stop - place, 4.0)
            if stop > k and stop < len(reply):
                weights[stop] = 3.0
            k = max(stop, k + 1)
        return weights

    def _answer_weights(self, reply: list[int], thought: float) -> list[float]:
        weights, inside = [], False
        for token in reply:
            inside = inside and token != self._answer_close
            if inside:
                weights.append(2.0)
            elif token in self._sides:  # follows from the patterns, seen or guessed
                weights.append(1.5)
            else:
                weights.append(thought if token in self._facts else 0.2)
            inside = inside or token == self._answer_open
        return weights


def box_reply(boxes: Sequence[Box]) -> str:
    """The perceiver's JSON, as its big siblings write it."""
    parts = [f"{box.x1:.0f}, {box.y1:.0f}, {box.x2:.0f}, {box.y2:.0f}{BOX_LABEL}{box.label}" for box in boxes]
    return BOX_OPEN + BOX_NEXT.join(parts) + BOX_CLOSE


def reasoner_reply(scene: Scene, question: Question, sample: Sample) -> str:
    """What is seen in each crop, for a relation what follows from it, then the answer."""
    items = [scene.objects[subject] for subject in question.subjects]
    names = ["left", "right"] if question.family == "relation" else [item.name for item in items]
    seen = [f"{name}: {item.pattern}" for name, item in zip(names, items, strict=True)]
    if question.family == "relation":
        seen.append(f"{scene.objects[question.mentions[0]].pattern}: {question.answer}")
    return f"<think>{', '.join(seen)}</think><answer>{sample.target}</answer>"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows put together, padded on the right. Places are (row, token) pairs."""

    ids_BL: Tensor
    positions_3BL: Tensor
    bias_B1LL: Tensor
    visual_BL: Tensor
    tokens_ND: Tensor
    deep_KND: Tensor
    places: tuple[Tensor, Tensor]
    labels: Tensor
    weights: Tensor
    kinds: Tensor
    pointers: dict[int, tuple[Tensor, Tensor, Tensor]]
    box_digits: tuple[Tensor, Tensor, Tensor] | None


def collate(rows: Sequence[Row], pad_id: int, image_id: int, width: int, levels: int) -> Batch:
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad_id)
    positions = torch.zeros(3, len(rows), length, dtype=torch.long)
    segments = torch.full((len(rows), length), -1)
    for b, row in enumerate(rows):
        ids[b, : len(row.ids)] = torch.tensor(row.ids)
        positions[:, b, : len(row.ids)] = torch.tensor(row.positions).T
        segments[b, : len(row.ids)] = torch.tensor(row.segments)
    images = [image for row in rows for image in row.images]
    tokens = torch.cat([image.tokens for image in images]).float() if images else torch.zeros(0, width)
    deep = torch.cat([image.deep for image in images], 1).float() if images else torch.zeros(levels, 0, width)
    flat = [(b, k) for b, row in enumerate(rows) for k, label in enumerate(row.labels) if label >= 0]
    pick = [(rows[b].labels[k], rows[b].weights[k], rows[b].kinds[k]) for b, k in flat]
    pointers = {}
    for slot in POINTER_HEADS:
        found = [(b, query, key) for b, row in enumerate(rows) for kind, query, key in row.pointers if kind == slot]
        if found:
            pointers[slot] = tuple(torch.tensor(column) for column in zip(*found, strict=True))
    digits = [(b, place, values) for b, row in enumerate(rows) for place, values in row.digits]
    return Batch(
        ids_BL=ids,
        positions_3BL=positions,
        bias_B1LL=attention_bias(segments),
        visual_BL=ids == image_id,
        tokens_ND=tokens,
        deep_KND=deep,
        places=(torch.tensor([b for b, _ in flat]), torch.tensor([k for _, k in flat])),
        labels=torch.tensor([label for label, _, _ in pick]),
        weights=torch.tensor([weight for _, weight, _ in pick]),
        kinds=torch.tensor([kind for _, _, kind in pick]),
        pointers=pointers,
        box_digits=tuple(torch.tensor(column) for column in zip(*digits, strict=True)) if digits else None,
    )


def attention_bias(segments_BL: Tensor) -> Tensor:
    """(B, 1, L, L): 0 where a token may look (earlier, and in the prefix or its own segment), a huge negative number
    elsewhere."""
    length = segments_BL.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    same = segments_BL[:, :, None] == segments_BL[:, None, :]
    allowed = earlier & (same | (segments_BL[:, None, :] == 0))
    return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[:, None]
