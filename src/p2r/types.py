"""What is asked and what is written down about it: boxes, samples, replies, answers, verdicts and traces.

Frozen pydantic models cross a file or a wire; frozen slotted dataclasses hold pixels. Everywhere, boxes are per mille
of the image's width and height (Qwen3-VL's frame, 0 to 1000); other frames are converted where a reply is parsed. No
file, network or tensor is touched here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

AnswerForm = Literal["choice", "number", "free_form"]
FinishReason = Literal["stop", "length"]
Frame = Literal["per_mille", "pixels", "unit", "file_pixels"]
Stage = Literal["image", "perceive", "gather", "reason", "judge"]
Alteration = Literal["", "shrunk", "enlarged"]
ParseStep = Literal["strict", "repaired", "salvaged", "none"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Frozen(BaseModel):
    """A base for immutable models that refuse unknown keys: a typo in a file is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(Frozen):
    """A rectangle, per mille of the image's width (x) and height (y). It may reach beyond 0..1000 unless clipped.

    Raises:
        ValidationError: a number is not finite, or the corners are reversed.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    label: str = ""

    @model_validator(mode="after")
    def _is_a_rectangle(self) -> Box:
        if not all(math.isfinite(value) for value in self.xyxy):
            raise ValueError(f"a box needs four finite numbers, not {self.xyxy}")
        if not (self.x1 < self.x2 and self.y1 < self.y2):
            raise ValueError(f"a box needs x1 < x2 and y1 < y2, not {self.xyxy}")
        return self

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        return (self.x1, self.y1, self.x2, self.y2)

    @property
    def center(self) -> tuple[float, float]:
        return ((self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2)

    @property
    def area(self) -> float:
        """The share of the image that the box covers, 0 to 1 for a box inside it."""
        return (self.x2 - self.x1) * (self.y2 - self.y1) / 1e6

    def to_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Corners in pixels of a `width` x `height` image, truncated toward zero as in the authors' release."""
        return (
            int(self.x1 / 1000 * width),
            int(self.y1 / 1000 * height),
            int(self.x2 / 1000 * width),
            int(self.y2 / 1000 * height),
        )


class ImageSource(Protocol):
    """The origin of an image. Pixels are decoded when they are asked for, and not kept."""

    @property
    def uri(self) -> str:
        """The name that traces give the image: a path, or e.g. `needles:7/12`."""
        ...

    def load(self) -> Image.Image:
        """The upright RGB image at full resolution. Raises ImageError."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one image.

    options: texts without letters, () for an open question; option k has the letter LETTERS[k].
    options_in_question: True where the question's text states the options, so that no prompt appends them.
    target: the right answer: a letter for a choice, else a text; None when unknown.
    gold_boxes: where the evidence is, in the order in which the question needs it; () when unknown.
    chance: the accuracy of blind guessing on this sample; None when unknown.
    cluster: a name shared by samples that ask the same thing (the rotations of one HR-Bench question); "" when alone.
    cycle: the number of the rotation within its cluster, from 0; None without rotations.
    nothing_there: True where the data says that there is no evidence to find: no gold boxes is the right answer.
    key_words: what a good reply names, in the order of the data; () when unknown.
    crop: the data's own image of the evidence alone; None without one.
    """

    id: str
    image: ImageSource
    question: str
    options: tuple[str, ...] = ()
    answer_form: AnswerForm = "free_form"
    target: str | None = None
    gold_boxes: tuple[Box, ...] = ()
    benchmark: str = ""
    category: str = ""
    chance: float | None = None
    options_in_question: bool = False
    cluster: str = ""
    cycle: int | None = None
    nothing_there: bool = False
    key_words: tuple[str, ...] = ()
    crop: ImageSource | None = None


class Usage(Frozen):
    """The cost of a reply in tokens.

    visual_tokens: the tokens of each image, computed from the size that was sent.
    prompt_tokens, generated_tokens: the counts that the model reported; None if it reported none.
    """

    visual_tokens: tuple[int, ...] = ()
    prompt_tokens: int | None = None
    generated_tokens: int | None = None


class ToolUse(Frozen):
    """The outcome of a reply's tool calls: the boxes that were shown, and what was wrong with the other calls.

    Where a checkpoint writes boxes in its thoughts and calls no tool (TreeVGR), those boxes.
    """

    boxes: tuple[Box, ...] = ()
    errors: tuple[str, ...] = ()


class Completion(Frozen):
    """A model's reply.

    finish_reason: "length" when the reply was cut off at the token limit, or a chat at its limit.
    first_probs: for each of `Decoding.first_words`, the probability that the reply begins with it.
    tool_use: the outcome of the reply's tool calls; None without calls.
    earlier: the calls that led to this one, in order.
    reworded: the settings that a server does not take, and that were therefore left to it or said otherwise, such as
        "temperature".
    altered: "shrunk" or "enlarged" where a server's count of tokens says that it saw smaller or larger images than were
        sent, or fewer; "" where the count agrees, or is not known. Where that is sure, there is no reply but a failure.
    reused: "" when the model was asked for this reply; "cache" when it comes from the cache, "shared" when the model
        was asked on behalf of another sample of the run. Usage and seconds are then those of the original call.
    """

    text: str
    finish_reason: FinishReason
    model: str
    usage: Usage = Usage()
    seconds: float = 0.0
    reused: Literal["", "cache", "shared"] = ""
    first_probs: tuple[float, ...] = ()
    tool_use: ToolUse | None = None
    reworded: tuple[str, ...] = ()
    altered: Alteration = ""
    earlier: tuple[Completion, ...] = ()

    @property
    def calls(self) -> tuple[Completion, ...]:
        """All the calls that were made, this one last."""
        return (*self.earlier, self)

    @property
    def was_drawn(self) -> bool:
        """Tell whether a server drew it at a temperature of its own: the same prompt may get another reply."""
        return any("temperature" in call.reworded for call in self.calls)


class BoxParse(Frozen):
    """A report of how boxes were read from a reply.

    step: the step of parsing that succeeded.
    reason: why no box was found; "" if some were.
    num_invalid, num_other_frame, num_revised, num_duplicates, num_over_cap: boxes that were left out.
    num_clipped: boxes that were cut to the image.
    other_frame: the frame in which those of `num_other_frame` seem to be written; None when that cannot be told.
    faults: why boxes were left out, one by one, the first few.
    """

    step: ParseStep
    reason: str = ""
    num_invalid: int = 0
    num_clipped: int = 0
    num_duplicates: int = 0
    num_over_cap: int = 0
    num_other_frame: int = 0
    num_revised: int = 0
    other_frame: Frame | None = None
    faults: tuple[str, ...] = ()


class Perception(Frozen):
    """The boxes that say where to look.

    source: the perceiver's name.
    completion: the model's reply, the last one where a search asks several times; None when no model was asked.
    parse: how the boxes were read from the reply; None when the reply does not state them.
    """

    source: str
    boxes: tuple[Box, ...]
    completion: Completion | None = None
    parse: BoxParse | None = None


class EvidenceRecord(Frozen):
    """A record of what the evidence was made of.

    image_wh: (width, height) of the full image in pixels.
    crops: (left, top, right, bottom) of each crop, in pixels of the full image.
    skipped: the indices of boxes that gave no crop.
    annotated: True when the boxes were drawn on the image.
    """

    image_wh: tuple[int, int]
    crops: tuple[tuple[int, int, int, int], ...] = ()
    skipped: tuple[int, ...] = ()
    annotated: bool = False


class Answer(Frozen):
    """The answer that was read from a reply. `str(answer)` is the answer for people: "B. a fish", "12", or "no answer".

    text: the answer as the reply states it; None when it cannot be read without guessing (rule "none").
    letter: the letter of the chosen option; None for an open question, or an option that does not exist.
    rule, span: the rule that found the answer, and where in the reply.
    """

    text: str | None
    letter: str | None = None
    rule: str = "none"
    span: tuple[int, int] | None = None
    _options: tuple[str, ...] = PrivateAttr(default=())

    def remember(self, options: tuple[str, ...]) -> None:
        """Keep the options for `str`. They are not written down with the answer: its trace holds them."""
        self._options = options

    @property
    def is_missing(self) -> bool:
        """True where the reply states no answer that can be read."""
        return self.letter is None and not self.text

    def describe(self, options: Sequence[str]) -> str:
        """Return the answer for people, a choice with its letter and the text of its option."""
        if self.letter is not None and self.letter in LETTERS[: len(options)]:
            return f"{self.letter}. {options[LETTERS.index(self.letter)]}"
        return self.text or self.letter or "no answer"

    def __str__(self) -> str:
        return self.describe(self._options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and self.model_dump() == other.model_dump()  # whatever the options are


class Verdict(Frozen):
    """A judgment of an answer. An answer that could not be judged has a failure instead.

    completion: the reply of a judging model; None when no model was asked.
    """

    correct: bool
    score: float
    judge: str
    reason: str = ""
    completion: Completion | None = None


class Failure(Frozen):
    """The reason why a trace is incomplete. A failed trace is neither right nor wrong; failures are counted apart."""

    stage: Stage
    kind: str
    message: str
    hint: str = ""


class Trace(Frozen):
    """The record of one walk: everything that was seen, said and judged about one sample, without pixels."""

    sample_id: str
    image: str
    question: str
    options: tuple[str, ...] = ()
    answer_form: AnswerForm = "free_form"
    target: str | None = None
    benchmark: str = ""
    category: str = ""
    perception: Perception | None = None
    evidence: EvidenceRecord | None = None
    reasoning: Completion | None = None
    answer: Answer | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None
    fingerprint: str = ""
    seconds: float = 0.0

    @model_validator(mode="after")
    def _tell_options(self) -> Trace:
        if self.answer is not None:
            self.answer.remember(self.options)
        return self

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes where the model looked: the perceiver's, then those that the reasoner asked to see or named."""
        perceived = self.perception.boxes if self.perception else ()
        uses = [call.tool_use for call in self.reasoning.calls] if self.reasoning else []
        return (*perceived, *(box for use in uses if use is not None for box in use.boxes))

    @property
    def boxes_px(self) -> tuple[tuple[int, int, int, int], ...]:
        """`boxes` as (left, top, right, bottom) in pixels of the full image.

        () also when the walk failed before the image's size was recorded.
        """
        if self.evidence is None:
            return ()
        return tuple(box.to_pixels(*self.evidence.image_wh) for box in self.boxes)


class Judge(Protocol):
    """Compares an answer (or the boxes) with the sample's target. Raises JudgeError when it cannot tell."""

    async def __call__(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict: ...
