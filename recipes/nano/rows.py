"""Training rows: several questions behind one shared prefix, [images | question, reply | question, reply | ...].

Each question sees the prefix and itself, never its neighbors (`attention_bias`), and its positions continue where the
prefix ends, so every question is computed exactly as if it stood alone, at about half the cost. A row also says where
attention should point (`Row.pointers`): supervision that turns minutes of plateau into seconds. Each question is asked
in words of its own (wording.py); names, letters and options are found by their places in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from p2r.answers.sections import HEADINGS
from p2r.benchmarks.needles.questions import Question
from p2r.benchmarks.needles.scene import COLORS, PATTERNS, SHAPES, Scene
from p2r.types import Box, Sample
from recipes.nano.demonstrator import asked_pattern
from recipes.nano.encode import Features
from recipes.nano.pool import View, jitter
from recipes.nano.tokenizer import BOX_CLOSE, BOX_LABEL, BOX_NEXT, BOX_OPEN, NUMBER_OPENERS
from recipes.nano.wording import PEBR_R1, RELEASE, TRAINED, Mark, draw_style, word_sample

END = "<|im_end|>"
PERCEIVE, REASON, DIRECT = 0, 1, 2
ROLE_WEIGHT, HUNDREDS_WEIGHT, LABEL_WEIGHT, THOUGHT_WEIGHT, ANSWER_WEIGHT = 3.0, 4.0, 1.0, 1.5, 2.0

# Attention that is supervised: what should look where, in which layer and heads (0-2 and 3-5 share one key head each).
# Perceiving: the named object is found, its box and its label are read from the name. Reasoning: the pattern is read
# from the crop.
# Choosing: an option's words know their letter, a fact in the thought finds its option, the letter is read there.
NAME_TO_OBJECT, FACT_TO_CROP, BOX_TO_NAME, WORD_TO_LETTER, FACT_TO_OPTION, LETTER_TO_FACT = range(6)
POINTER_HEADS = {
    NAME_TO_OBJECT: (1, slice(0, 3)),
    FACT_TO_CROP: (2, slice(0, 3)),
    BOX_TO_NAME: (3, slice(0, 3)),
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


class Asked(NamedTuple):
    """A question in a row: its tokens, the characters that each stands for, and the indices of it and of its reply."""

    ids: list[int]
    spans: list[tuple[int, int]]
    start: int
    reply: int


class RowMaker:
    """Builds rows, each question in words of its own; knows the tokenizer, nothing of the model."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self._shapes = {self.encode(" " + shape)[0] for shape in SHAPES}
        self._names = self._shapes | {self.encode(color)[0] for color in COLORS}
        self._patterns = {self.encode(" " + pattern)[0] for pattern in PATTERNS}
        self._findings = {self.encode(f" {word}")[0] for word in ("left", "right", "yes", "no")}
        self._facts = self._patterns | self._findings | {self.encode(pattern)[0] for pattern in PATTERNS}
        self._digits = {self.encode(str(digit))[0] for digit in range(10)}
        self._openers = {self.encode(opener)[0] for opener in NUMBER_OPENERS}
        self._hundreds = {self.encode(f"{opener}{digit}00")[0] for opener in NUMBER_OPENERS for digit in range(1, 10)}
        self._box_starts = {self.encode(BOX_OPEN)[0], self.encode(BOX_NEXT)[0]}
        self._answer_open, self._answer_close = self.encode("<answer>")[0], self.encode("</answer>")[0]
        self._image = tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def encode(self, text: str) -> list[int]:
        if text not in self._known:
            if len(self._known) > 200_000:
                self._known.clear()
            self._known[text] = self._tokenizer.encode(text, add_special_tokens=False)
        return self._known[text]

    def open_row(self, rng: np.random.RandomState, views: Sequence[View], features: Sequence[Features]) -> Row:
        """The shared prefix: the system's turn, which some rows lack, and images."""
        row, systems = Row(images=list(features)), TRAINED.texts["systems"]
        kind = rng.rand()
        words = "" if kind < 0.15 else RELEASE.system if kind < 0.75 else systems[rng.randint(len(systems))]
        system = f"<|im_start|>system\n{words}{END}\n" if words else ""
        opening = self.encode(f"{system}<|im_start|>user\n")
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

    def add_perceiver(
        self,
        row: Row,
        rng: np.random.RandomState,
        scene: Scene,
        question: Question,
        view: View,
        subjects: Sequence[int] | None = None,
    ) -> None:
        """subjects: the objects that are boxed; all that the question is about by default."""
        side = scene.knobs.side_px
        boxed = question.subjects if subjects is None else subjects
        boxes = [jitter(rng, scene.objects[k].box(side), shift=4, stretch=0.03) for k in boxed]
        reply = self.encode(box_reply(boxes) + END)
        style = draw_style(rng)
        text = style.prompts.perceiver(word_sample(scene, question, style)[0])
        asked = self._add(row, text, reply, PERCEIVE, self._digit_weights(reply))
        names = [asked.start + k for k, token in enumerate(asked.ids) if token in self._shapes]
        for name, subject in zip(names, question.subjects, strict=True):
            item = scene.objects[subject]
            token = view.token_at(item.x, item.y)
            if token is not None:
                row.pointers.append((NAME_TO_OBJECT, name, row.image_starts[0] + token))
            whole = [min(999, int(value)) for value in item.box(side).xyxy]
            row.digits.append((name, [value // 100 for value in whole] + [value // 10 % 10 for value in whole]))
        box, inside = -1, False
        for k, token in enumerate(reply):
            box += token in self._box_starts
            inside = (inside or token in self._box_starts) and token not in self._shapes
            if inside:
                row.pointers.append((BOX_TO_NAME, asked.reply + k, names[box]))

    def add_reasoner(
        self, row: Row, rng: np.random.RandomState, scene: Scene, question: Question, crops: Sequence[View]
    ) -> None:
        reply, first_reply = self._add_reasoning(row, rng, scene, question, THOUGHT_WEIGHT)
        said = [first_reply + k - 1 for k, token in enumerate(reply) if token in self._patterns]
        said = said[: len(question.subjects)]
        for number, (place, subject, crop) in enumerate(zip(said, question.subjects, crops, strict=False), start=1):
            item = scene.objects[subject]
            token = crop.token_at(item.x, item.y)
            if token is not None:
                row.pointers.append((FACT_TO_CROP, place, row.image_starts[number] + token))

    def add_lookup(self, row: Row, rng: np.random.RandomState, scene: Scene, question: Question) -> None:
        """Text alone: the thought is given, only the answer that follows from it is to be learned."""
        self._add_reasoning(row, rng, scene, question, 0.0)

    def add_direct(self, row: Row, rng: np.random.RandomState, scene: Scene, question: Question) -> None:
        """One look: an answer at once or after a thought, a guess since the details cannot be seen."""
        style, at_once = draw_style(rng), bool(rng.rand() < 1 / 3)
        in_sections = not at_once and bool(rng.rand() < 0.15)
        prompts = PEBR_R1 if in_sections else style.prompts
        sample, _ = word_sample(scene, question, style)
        key = "direct" if at_once else ("thinking", "reasoner_without_evidence")[rng.randint(2)]
        write = sections_reply if in_sections else reasoner_reply
        answer = (sample.target or "") if at_once else write(scene, question, sample)
        reply = self.encode(answer + END)
        weights = [1.0] * len(reply) if at_once or in_sections else self._answer_weights(reply, 0.5)
        self._add(row, getattr(prompts, key)(sample), reply, DIRECT, weights)

    def _add(self, row: Row, text: str, reply: list[int], kind: int, weights: Sequence[float]) -> Asked:
        """Append question and reply as a new segment."""
        turn = self._tokenizer(
            f"{text}{END}\n<|im_start|>assistant\n", add_special_tokens=False, return_offsets_mapping=True
        )
        ids, start, segment = turn["input_ids"], len(row.ids), max(row.segments, default=0) + 1
        row.extend([*ids, *reply[:-1]], segment, row.next_position)
        first = start + len(ids) - 1
        for k, (token, weight) in enumerate(zip(reply, weights, strict=True)):
            row.labels[first + k], row.weights[first + k], row.kinds[first + k] = token, weight, kind
        return Asked(ids, turn["offset_mapping"], start, first + 1)

    def _add_reasoning(
        self, row: Row, rng: np.random.RandomState, scene: Scene, question: Question, thought: float
    ) -> tuple[list[int], int]:
        """Append a question on evidence with its reply; the reply's tokens, and the index of the first of them."""
        style = draw_style(rng)
        sample, marks = word_sample(scene, question, style)
        text = style.prompts.reasoner(sample)
        reply = self.encode(reasoner_reply(scene, question, sample) + END)
        asked = self._add(row, text, reply, REASON, self._answer_weights(reply, thought))
        begin = text.index(sample.question)
        options = [self._find_option(asked, Mark(*(begin + place for place in mark))) for mark in marks]
        self._point_at_option(row, options, question, reply, asked.reply)
        return reply, asked.reply

    def _point_at_option(
        self, row: Row, options: list[tuple[int, list[int]]], question: Question, reply: list[int], known: int
    ) -> None:
        """An option's words look at its letter, the facts at the right option, the letter at the facts.

        A relation is concluded in the same way: "left: plain, right: checked, checked: right" looks up the side of the
        pattern that was asked for among the two that were seen. So is "red star: plain, checked: no".
        """
        thought = reply[: reply.index(self._answer_open)]
        facts = [known + k for k, token in enumerate(thought) if token in self._patterns]
        if question.family in ("relation", "absent"):
            row.pointers += [(WORD_TO_LETTER, fact, fact - 2) for fact in facts]
            wanted = facts[question.subjects.index(question.mentions[0])]
            found = known + next(k for k, token in enumerate(thought) if token in self._findings)
            row.pointers += [(FACT_TO_OPTION, found - 2, wanted), (LETTER_TO_FACT, found - 1, found - 2)]
            facts = [found]
        if not options:
            return
        row.pointers += [(WORD_TO_LETTER, word, letter) for letter, words in options for word in words]
        _, right = options[question.options.index(question.answer)]
        row.pointers += [(FACT_TO_OPTION, fact, word) for fact, word in zip(facts, right, strict=True)]
        row.pointers += [(LETTER_TO_FACT, known + len(thought), fact) for fact in facts]

    def _find_option(self, asked: Asked, mark: Mark) -> tuple[int, list[int]]:
        """The index of an option's letter, and those of its words."""
        letter = next(k for k, (a, b) in enumerate(asked.spans) if a <= mark.letter < b)
        words = [
            asked.start + k
            for k, (token, (a, b)) in enumerate(zip(asked.ids, asked.spans, strict=True))
            if token in self._facts and mark.start - 1 <= a and b <= mark.end
        ]
        return asked.start + letter, words

    def _digit_weights(self, reply: list[int]) -> list[float]:
        """Hundreds decide where a box is, units hardly. A bare opener is the choice of a number below 100. The first
        token is the choice of the role. A label is two words, color and shape."""
        weights, left = [ROLE_WEIGHT] + [0.3] * (len(reply) - 1), 0
        for k, token in enumerate(reply):
            bare = token in self._openers and reply[k + 1] in self._digits
            if token in self._hundreds or bare:
                weights[k], left = HUNDREDS_WEIGHT, 1 if bare and reply[k + 2] not in self._digits else 2
            elif token in self._digits and left:
                weights[k], left = {2: 2.0, 1: 1.2}[left], left - 1
            elif token in self._names:
                weights[k] = LABEL_WEIGHT
        return weights

    def _answer_weights(self, reply: list[int], thought: float) -> list[float]:
        weights, inside = [1.0], False
        for token in reply[1:]:
            inside = inside and token != self._answer_close
            if inside:
                weights.append(ANSWER_WEIGHT)
            elif token in self._findings:  # follows from the patterns, seen or guessed
                weights.append(THOUGHT_WEIGHT)
            else:
                weights.append(thought if token in self._facts else 0.2)
            inside = inside or token == self._answer_open
        return weights


def box_reply(boxes: Sequence[Box]) -> str:
    """The perceiver's JSON, as its big siblings write it."""
    parts = [f"{box.x1:.0f}, {box.y1:.0f}, {box.x2:.0f}, {box.y2:.0f}{BOX_LABEL}{box.label}" for box in boxes]
    return BOX_OPEN + "[" + f"{BOX_NEXT}[".join(parts) + BOX_CLOSE


def reasoner_reply(scene: Scene, question: Question, sample: Sample) -> str:
    """What is seen in each crop, what follows from it where a side or yes or no is asked for, then the answer."""
    return f"<think>{tell_facts(scene, question)}</think><answer>{sample.target}</answer>"


def sections_reply(scene: Scene, question: Question, sample: Sample) -> str:
    """The same in the sections of the prompt set `pebr_r1`."""
    names = ", ".join(scene.objects[k].name for k in question.subjects)
    told = (names, "the pattern", tell_facts(scene, question), sample.target)
    return "\n".join(f"{heading}\n{text}" for heading, text in zip(HEADINGS, told, strict=True))


def tell_facts(scene: Scene, question: Question) -> str:
    items = [scene.objects[subject] for subject in question.subjects]
    names = ["left", "right"] if question.family == "relation" else [item.name for item in items]
    seen = [f"{name}: {item.pattern}" for name, item in zip(names, items, strict=True)]
    if question.family == "relation":
        seen.append(f"{scene.objects[question.mentions[0]].pattern}: {question.answer}")
    elif question.family == "absent":
        seen.append(f"{asked_pattern(question)}: {question.answer}")
    return ", ".join(seen)
