"""The modes: named pairs of a perceiver and a reasoner.

The walk knows nothing about modes. "shuffled" also changes the order of every question's options, and "paired-crop"
asks about the data's own crop in place of the image. "tools:NAME" is a chat in the dialect of another system's
checkpoint, "p2r:NAME" asks where to look in one, and ":released" behind them keeps the authors' slips. Paper: Table 3
for a perceiver and a reasoner from different checkpoints.

The reasoners of "annotate-only" and "crop-only" leave out part of the evidence and keep the wording, so that only the
images differ; the trace still records everything that was gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

from p2r.choices import shuffle_options
from p2r.dialogue import Budget, Decoding, Model
from p2r.errors import ConfigError, excerpt
from p2r.prompts import PromptSet
from p2r.roles import (
    DEFAULT_DECODING,
    DecodingPreset,
    EvidenceReasoner,
    ModelPerceiver,
    NoPerceiver,
    OraclePerceiver,
    Perceiver,
    PlainReasoner,
    RandomPerceiver,
    Reasoner,
    ToolReasoner,
    ZoomPerceiver,
)
from p2r.roles.dialects import DIALECTS
from p2r.roles.dialects.boxes import BOX_DIALECTS
from p2r.roles.partial import BlindReasoner, PartialReasoner
from p2r.roles.zoom import find_search
from p2r.types import Sample

ChatMode = Literal[
    "tools",
    "tools:deepeyes",
    "tools:deepeyes:released",
    "tools:mini-o3",
    "tools:mini-o3:released",
    "tools:thyme",
    "tools:thyme:released",
    "tools:pixel-reasoner",
    "tools:pixel-reasoner:released",
    "tools:treevgr",
    "tools:treevgr:released",
    "tools:zwz",
]
"""Modes in which the model asks for closer looks, by the dialect that it speaks."""
BoxMode = Literal[
    "p2r:vlm-r1", "p2r:vlm-r1:released", "p2r:vlm-r1-od:released", "p2r:visual-rft", "p2r:visual-rft:released"
]
"""Modes in which the model is asked where to look as another system asks it."""
Mode = Literal[
    "direct",
    "thinking",
    "p2r",
    BoxMode,
    ChatMode,
    "zoom",
    "oracle",
    "random",
    "none",
    "blind",
    "annotate-only",
    "crop-only",
    "shuffled",
    "paired-crop",
]
MODES: tuple[Mode, ...] = get_args(Mode)
AskMode = Literal["p2r", "direct", "thinking", BoxMode, ChatMode, "zoom"]
"""Modes for a question of your own; the others compare modes on a benchmark."""


class Roles(NamedTuple):
    """The perceiver and the reasoner of a mode."""

    perceiver: Perceiver
    reasoner: Reasoner


CAPTIONS: dict[Mode, str] = {
    "direct": "one look at the whole image, answered at once",
    "thinking": "one look at the whole image, step by step",
    "p2r": "boxes where the model says to look, then crops",
    "p2r:vlm-r1": "as p2r, asked where to look as VLM-R1 is, by any form of box",
    "p2r:vlm-r1:released": "as p2r, asked where to look as VLM-R1's authors evaluated it, slips included",
    "p2r:vlm-r1-od:released": "the same by their second script: a code block, in pixels of the file",
    "p2r:visual-rft": "as p2r, asked where to look as Visual-RFT is, by any form of box",
    "p2r:visual-rft:released": "as p2r, asked where to look as Visual-RFT's authors evaluated it, slips included",
    "tools": "a chat in which the model may zoom in",
    "tools:deepeyes": "a chat in the dialect of DeepEyes, boxes mapped to the file",
    "tools:deepeyes:released": "DeepEyes as its authors evaluated it, slips included",
    "tools:mini-o3": "a chat in the dialect of Mini-o3",
    "tools:mini-o3:released": "Mini-o3 as its authors evaluated it, slips included",
    "tools:thyme": "a chat in the dialect of Thyme: it writes programs that look at the image",
    "tools:thyme:released": "Thyme as its authors evaluated it, slips included",
    "tools:pixel-reasoner": "a chat in the dialect of PixelReasoner",
    "tools:pixel-reasoner:released": "PixelReasoner as its authors evaluated it, slips included",
    "tools:treevgr": "one reply with boxes in its thoughts, as TreeVGR is asked",
    "tools:treevgr:released": "TreeVGR with boxes as its authors scored them",
    "tools:zwz": "one reply on the whole image, as ZwZ is asked",
    "zoom": "boxes found by a search over parts of the image",
    "oracle": "boxes where the evidence is",
    "random": "as many boxes and as large, anywhere",
    "none": "the reasoner of p2r, without evidence",
    "blind": "the question without the image",
    "annotate-only": "own boxes drawn on the image, no crops",
    "crop-only": "crops of own boxes, without the whole image",
    "shuffled": "as p2r, options in another order",
    "paired-crop": "one look at the data's own crop of the detail, answered at once",
}
CHATS: frozenset[Mode] = frozenset(get_args(ChatMode))
BOX_MODES: frozenset[Mode] = frozenset(get_args(BoxMode))
PERCEIVING: frozenset[Mode] = BOX_MODES | frozenset[Mode](
    ("p2r", "zoom", "oracle", "random", "annotate-only", "crop-only", "shuffled")
)
"""Modes that have boxes before the reasoner is asked."""
READING_BOXES: frozenset[Mode] = frozenset({"p2r", "tools", "annotate-only", "crop-only", "shuffled"})
"""Modes that read boxes in the frame of the model's profile. A dialect of "tools:NAME" has a frame of its own."""
LOOKING: frozenset[Mode] = PERCEIVING | CHATS
"""Modes that use boxes; in the others there are no hits to count."""
UNTAGGED: frozenset[Mode] = frozenset({"direct", "blind", "paired-crop"})
"""Modes whose prompt asks for the bare answer, without a tag."""
_NEEDING_GOLD: frozenset[Mode] = frozenset({"oracle", "random"})


def read_mode(name: object) -> Mode:
    """Return `name` as a mode. Raises ConfigError when there is no such mode."""
    by_name: dict[str, Mode] = {mode: mode for mode in MODES}
    if not isinstance(name, str) or name not in by_name:
        raise ConfigError(f"there is no mode {excerpt(name)}", hint=f"modes: {', '.join(MODES)}")
    return by_name[name]


def make_roles(
    mode: Mode,
    model: Model,
    prompts: PromptSet,
    *,
    perceiver_model: Model | None = None,
    budget: Budget | None = None,
    decoding: DecodingPreset = DEFAULT_DECODING,
    seed: int = 0,
) -> Roles:
    """Make the perceiver and the reasoner of a mode.

    Args:
        perceiver_model: perceives in place of `model`.
        budget: pixels for both roles; None for each model's own budget.
        decoding: how each role's replies are drawn. A search asks its own questions, each with its own limit.
        seed: for random boxes.

    Raises:
        ConfigError: there is no such mode, or it reads boxes and nothing tells in which frame they are written.
    """
    mode = read_mode(mode)
    if mode in READING_BOXES:
        check_frame(model, perceiver_model, is_chat=mode in CHATS)
    return Roles(
        _make_perceiver(mode, perceiver_model or model, prompts, budget, decoding.perceiver, seed),
        _make_reasoner(mode, model, prompts, budget, decoding.reasoner),
    )


def check_frame(model: Model, perceiver_model: Model | None, *, is_chat: bool = False) -> None:
    """Make sure that it is known in which frame the model that says where to look writes boxes.

    Args:
        is_chat: `model` looks itself, though `family` and `frame` are of `perceiver_model` where there is one.

    Raises:
        ConfigError: it is not known.
    """
    looker = model if is_chat else perceiver_model or model
    if not looker.profile.knows_frame:
        profile = "`profile`" if looker is model else "`perceiver_profile`"
        both = "" if is_chat and perceiver_model is not None else "its `frame`, or its `family`, or "
        raise ConfigError(
            f"it is not known in which frame {looker.name} writes boxes, because its name tells no family",
            hint=f"state {both}what it is with {profile}; `p2r doctor` finds the frame out",
        )


def prepare_samples(mode: Mode, samples: Sequence[Sample], seed: int = 0) -> list[Sample]:
    """Return the samples as this mode asks them.

    Raises:
        ConfigError: the mode needs gold boxes or crops and a sample has none, or no sample has options to shuffle.
    """
    if mode in _NEEDING_GOLD:
        bare = [sample.id for sample in samples if not sample.gold_boxes]
        if bare:
            raise ConfigError(
                f"the mode {mode!r} needs gold boxes, which {len(bare)} of {len(samples)} samples lack "
                f"({', '.join(bare[:3])}{', ...' if len(bare) > 3 else ''})",
                hint="V* takes the boxes of its original release with `boxes=FOLDER`; or leave this mode out",
            )
    if mode == "paired-crop":
        return [_show_crop(sample) for sample in samples]
    if mode != "shuffled":
        return list(samples)
    if not any(sample.options for sample in samples):
        raise ConfigError("the mode 'shuffled' needs questions with options", hint="leave this mode out")
    return [shuffle_options(sample, seed) for sample in samples]


def _show_crop(sample: Sample) -> Sample:
    if sample.crop is None:
        raise ConfigError(
            f"the mode 'paired-crop' needs the data's own crops, which sample {sample.id!r} lacks",
            hint="ZoomBench has them; leave this mode out for other data",
        )
    return replace(sample, image=sample.crop)


def _make_perceiver(
    mode: Mode, model: Model, prompts: PromptSet, budget: Budget | None, decoding: Decoding, seed: int
) -> Perceiver:
    match mode:
        case "p2r" | "annotate-only" | "crop-only" | "shuffled":
            return ModelPerceiver(model, prompts, decoding, budget)
        case "zoom":
            return ZoomPerceiver(model, prompts, find_search(model.name), budget)
        case "oracle":
            return OraclePerceiver()
        case "random":
            return RandomPerceiver(seed)
        case _ if mode in BOX_MODES:
            dialect = BOX_DIALECTS[mode.partition(":")[2]]()
            drawn = _decode(dialect.decoding, decoding, DEFAULT_DECODING.perceiver)
            return ModelPerceiver(model, prompts, drawn, budget, dialect=dialect)
        case _:
            return NoPerceiver()


def _make_reasoner(mode: Mode, model: Model, prompts: PromptSet, budget: Budget | None, decoding: Decoding) -> Reasoner:
    match mode:
        case "direct" | "thinking":
            return PlainReasoner(model, prompts, mode, decoding, budget)
        case "paired-crop":
            return PlainReasoner(model, prompts, "direct", decoding, budget)
        case "blind":
            return BlindReasoner(model, prompts, decoding)
        case "annotate-only":
            return PartialReasoner(EvidenceReasoner(model, prompts, decoding, budget), "annotated")
        case "crop-only":
            return PartialReasoner(EvidenceReasoner(model, prompts, decoding, budget), "crops")
        case "p2r" | "zoom" | "oracle" | "random" | "none" | "shuffled":
            return EvidenceReasoner(model, prompts, decoding, budget)
        case _ if mode in BOX_MODES:
            return EvidenceReasoner(model, prompts, decoding, budget)
        case _:  # "tools", and "tools:NAME"
            return _make_chat(mode, model, prompts, budget, decoding)


def _make_chat(mode: Mode, model: Model, prompts: PromptSet, budget: Budget | None, decoding: Decoding) -> Reasoner:
    """Return the reasoner of "tools" and of a mode "tools:NAME"; stated decoding replaces the dialect's."""
    dialect = DIALECTS[mode.partition(":")[2]]()
    if dialect.decoding is not None:
        decoding = _decode(dialect.decoding, decoding, DEFAULT_DECODING.reasoner)
    return ToolReasoner(model, prompts, decoding, budget, dialect)


def _decode(own: Decoding, given: Decoding, usual: Decoding) -> Decoding:
    """Return a dialect's decoding with what was stated, which is what differs from the usual."""
    stated = {name: value for name, value in given.model_dump().items() if value != getattr(usual, name)}
    return own.model_copy(update=stated)
