"""The core types, and what a model, a perceiver, a reasoner and a judge are. No file, network or tensor is touched
here.

Frozen pydantic models cross a file or a wire; frozen slotted dataclasses hold pixels. Boxes are per mille of the
image's width and height (Qwen3-VL's frame, 0 to 1000), everywhere: other frames are converted where a reply is
parsed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict, model_validator

AnswerForm = Literal["choice", "number", "free_form"]
Frame = Literal["per_mille", "absolute", "unit"]
Stage = Literal["image", "perceive", "gather", "reason", "judge"]
ParseStep = Literal["strict", "repaired", "salvaged", "none"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Frozen(BaseModel):
    """Immutable, and strict about unknown keys: a typo in a file is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(Frozen):
    """A rectangle in per mille of the image's width (x) and height (y). May reach beyond 0..1000 when not clipped."""

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
        """Share of the image, 0 to 1 for a box inside it."""
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
    """Where an image comes from. Pixels are made when asked for and not kept."""

    @property
    def uri(self) -> str:
        """A name that is written into traces: a path, or e.g. `needles:7/12`."""
        ...

    def load(self) -> Image.Image:
        """The upright RGB image at full resolution. Raises ImageError."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one image.

    options: texts without letters, () for an open question; option k has the letter LETTERS[k].
    options_in_question: the question's text already states the options, so that no prompt appends them.
    target: the right answer: a letter for a choice, else a text; None when unknown.
    gold_boxes: where the evidence is, in the order in which the question needs it; () when unknown.
    chance: accuracy of blind guessing on this very sample, None when unknown.
    cluster: samples that share it ask the same thing (the rotations of one HR-Bench question); "" when alone.
    cycle: which rotation of its cluster this is, from 0; None without rotations.
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


class Usage(Frozen):
    """What a reply cost. `visual_tokens` is per image, computed from the sizes we sent; the rest is None when not
    reported."""

    visual_tokens: tuple[int, ...] = ()
    prompt_tokens: int | None = None
    generated_tokens: int | None = None


class ToolUse(Frozen):
    """What a reply's tool calls came to: the places that were shown, and what was wrong with the other calls."""

    boxes: tuple[Box, ...] = ()
    errors: tuple[str, ...] = ()


class Completion(Frozen):
    """A model's reply. `finish_reason` is "length" when it was cut off at the token limit, or a chat at its limit.

    first_probs: for each of `Decoding.first_words`, its probability of beginning the reply.
    tool_use: when the reply calls a tool.
    earlier: the calls that led to this one, in order.
    reused: "" when the model was asked for it; "cache" when it had replied to the very same before, "shared" when it
        was asked for another sample of the run. Usage and seconds are those of the asking, then.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    model: str
    usage: Usage = Usage()
    seconds: float = 0.0
    reused: Literal["", "cache", "shared"] = ""
    first_probs: tuple[float, ...] = ()
    tool_use: ToolUse | None = None
    earlier: tuple[Completion, ...] = ()

    @property
    def calls(self) -> tuple[Completion, ...]:
        """Every call it took, this one last."""
        return (*self.earlier, self)


class BoxParse(Frozen):
    """How boxes were read out of a reply: the step that succeeded, why nothing was found, and what was left out."""

    step: ParseStep
    reason: str = ""
    num_invalid: int = 0
    num_clipped: int = 0
    num_duplicates: int = 0
    num_over_cap: int = 0


class Perception(Frozen):
    """Where to look. `source` names the perceiver.

    completion: the model's reply, the last one of a search that asks often; None when no model was asked.
    parse: how boxes were read out of it; None when they are not written in it.
    """

    source: str
    boxes: tuple[Box, ...]
    completion: Completion | None = None
    parse: BoxParse | None = None


class EvidenceRecord(Frozen):
    """What the evidence was made of: crop rectangles in pixels of the full image, and the boxes that gave none."""

    image_wh: tuple[int, int]
    crops: tuple[tuple[int, int, int, int], ...] = ()
    skipped: tuple[int, ...] = ()
    annotated: bool = False


class Answer(Frozen):
    """What was read out of a reply: its text, for a choice its letter, and the rule and span that found it.

    rule "none" with text None: the reply holds no answer that can be read without guessing.
    """

    text: str | None
    letter: str | None = None
    rule: str = "none"
    span: tuple[int, int] | None = None


class Verdict(Frozen):
    """A judgment. An answer that could not be judged has no verdict but a failure. `completion` is that of a judging
    model, None when none was asked."""

    correct: bool
    score: float
    judge: str
    reason: str = ""
    completion: Completion | None = None


class Failure(Frozen):
    """Why a trace is incomplete: neither right nor wrong, and counted apart."""

    stage: Stage
    kind: str
    message: str
    hint: str = ""


class Trace(Frozen):
    """One walk: everything that was seen, said and judged about one sample, without pixels."""

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

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Where was looked: the perceiver's boxes, then the places that the reasoner had a tool show it."""
        perceived = self.perception.boxes if self.perception else ()
        uses = [call.tool_use for call in self.reasoning.calls] if self.reasoning else []
        return (*perceived, *(box for use in uses if use is not None for box in use.boxes))


class Judge(Protocol):
    """Compares an answer (or the boxes) with the sample's target. Raises JudgeError when it cannot tell."""

    async def __call__(self, sample: Sample, answer: Answer, boxes: tuple[Box, ...]) -> Verdict: ...
