"""The table `reward` of a recipe: which terms are summed, which take everything away, and who judges free answers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar, cast

from pydantic import (
    Discriminator,
    Field,
    FiniteFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from p2r.dialogue import Role
from p2r.types import Frozen

Names = TypeVar("Names", dict[str, float] | None, tuple[str, ...] | None)

BOX_TERMS = ("box_iou", "box_f1", "count", "overlap_penalty", "label_penalty")
"""The terms that are about boxes: the reply of a perceiver has them, an answer has not."""
GOLD_TERMS = ("box_iou", "box_f1")
"""The terms that compare boxes with the row's gold boxes."""
CAPTION_TERM = "caption_similarity"
"""The term that a model of the CLIP family rates."""
ANSWER_TERMS = ("keywords", "sections", "length", CAPTION_TERM)
"""The terms that are about the words of an answer, as PeBR-R1 rewards them; the reply of a perceiver has none."""
TERMS = ("correct", "format", *BOX_TERMS, *ANSWER_TERMS)
"""The terms that come with p2r; `p2r.training.rewards.built_in` says what they are."""
SET_TERMS: Mapping[str, float] = {"correct": 1.0}
SET_VETOES: Mapping[str, tuple[str, ...]] = {"paper": (), "release": ("overlap_penalty", "label_penalty")}


def is_own_term(name: str) -> bool:
    """Tell whether a term is a function of the user's, such as "my_rewards.py:short", and not one of `TERMS`."""
    return ":" in name


def applies_to(term: str, role: Role) -> bool:
    """Tell whether the replies of a role have a term."""
    return term not in (ANSWER_TERMS if role == "perceiver" else BOX_TERMS)


class JudgeSettings(Frozen):
    """A model of its own that judges free answers, at temperature 0, as the authors' release has one.

    url: an OpenAI-compatible server. model: its name there; "" for the server's only one.
    max_new_tokens: of a judgment, as in the release.
    concurrency: most requests under way at a time. timeout_s: longest wait for a reply.
    """

    url: str
    model: str = ""
    max_new_tokens: PositiveInt = 64
    concurrency: PositiveInt = 32
    timeout_s: float = Field(default=60.0, gt=0)

    @property
    def address(self) -> tuple[str, str]:
        """The server, and the model's name there, which may also stand behind the url: "http://host/v1#name"."""
        url, _, name = self.url.partition("#")
        return url, self.model or name


class CaptionSettings(Frozen):
    """The model that compares descriptions with images.

    model: a folder or a hub id of the CLIP family, such as qihoo360/fg-clip-large.
    trust_remote_code: run the code that comes with the weights, as FG-CLIP's do. Read it first.
    device: None for the device of the model that is trained.
    full_at: the cosine from which on a description earns 1; 0.4 is PeBR-R1's, for FG-CLIP.
    """

    model: str = Field(min_length=1)
    trust_remote_code: bool = False
    device: str | None = None
    full_at: float = Field(default=0.4, gt=0, le=1)


def _choose_judge(value: object) -> str:
    return "[table]" if isinstance(value, (Mapping, JudgeSettings)) else "[name]"


class RewardSettings(Frozen):
    """The weighted sum of terms, or zero where a veto holds.

    set: "release" has the authors' two penalties as vetoes, "paper" is answer correctness alone (equation 3).
    terms: the weight of each term, in place of the set's. A term is one of `TERMS`, or a function of your own:
        "file.py:function", relative to the recipe, or "module:function"; see `p2r.training.rewards`. A term of weight 0
        is only recorded. Terms about boxes do not count in a phase that samples answers, and those about the words of
        an answer not in one that samples boxes.
    vetoes: the terms that make the reward 0 where they are not 0 themselves, in place of the set's.
    judge: how free answers are judged: by their words; by the frozen role, or by a model of its own, where the words
        differ.
    caption: the model that the term `caption_similarity` needs; None without that term.
    overlong: weight of DAPO's soft punishment of replies that come near the token limit; 0 for none.
    overlong_buffer: how near, as a share of the limit.
    """

    set: Literal["release", "paper"] = "release"
    terms: dict[str, FiniteFloat] | None = None
    vetoes: tuple[str, ...] | None = None
    judge: Annotated[
        Annotated[Literal["words", "partner"], Tag("[name]")] | Annotated[JudgeSettings, Tag("[table]")],
        Discriminator(_choose_judge),
    ] = "words"
    caption: CaptionSettings | None = None
    overlong: float = Field(default=0.0, ge=0)
    overlong_buffer: float = Field(default=0.2, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _leaves_out_an_old_default(cls, given: object) -> object:
        """Read runs in whose recipe.json `terms` has its old name, `weights`, and is not set."""
        if isinstance(given, Mapping):
            table = cast("Mapping[str, object]", given)
            return {name: value for name, value in table.items() if (name, value) != ("weights", None)}
        return given

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write what earlier versions wrote where there is no caption model."""
        dumped = cast("dict[str, object]", dump(self))
        return {name: value for name, value in dumped.items() if (name, value) != ("caption", None)}

    @field_validator("terms", "vetoes")
    @classmethod
    def _names_terms(cls, names: Names) -> Names:
        for name in names or ():
            if name not in TERMS and not is_own_term(name):
                # A part of a name is meant for the whole one, whatever else looks like it.
                parts = [term for term in TERMS if name in term.split("_")]
                near = parts or difflib.get_close_matches(name, TERMS, n=1)
                meant = f"did you mean {near[0]}? " if near else ""
                raise ValueError(
                    f"{name!r} is not a term; {meant}there are {', '.join(TERMS)}, and functions of your own, such as "
                    '"my_rewards.py:short"'
                )
        return names

    @field_validator("terms")
    @classmethod
    def _weighs_something(cls, terms: dict[str, float] | None) -> dict[str, float] | None:
        if terms is not None and not any(terms.values()):
            raise ValueError("it needs a term whose weight is not 0")
        return terms

    @property
    def active_terms(self) -> Mapping[str, float]:
        """The weights of the terms that are summed."""
        return SET_TERMS if self.terms is None else self.terms

    @property
    def active_vetoes(self) -> tuple[str, ...]:
        """The terms that make the reward 0 where they are not 0 themselves."""
        return SET_VETOES[self.set] if self.vetoes is None else self.vetoes

    def names(self, term: str) -> bool:
        """Tell whether a term is asked for, be it only to be recorded."""
        return term in self.active_terms or term in self.active_vetoes

    def counts(self, term: str) -> bool:
        """Tell whether the reward depends on a term, by a weight or a veto."""
        return bool(self.active_terms.get(term)) or term in self.active_vetoes

    def needs_gold(self, role: Role) -> bool:
        """Tell whether a row needs gold boxes, so that the reward of this role's replies is known."""
        return any(applies_to(term, role) and self.counts(term) for term in GOLD_TERMS)

    def needs_captions(self, role: Role) -> bool:
        """Tell whether a model has to compare descriptions with images for this role's replies."""
        return applies_to(CAPTION_TERM, role) and self.names(CAPTION_TERM)

    def needs_key_words(self, role: Role) -> bool:
        """Tell whether a row needs key words, so that the reward of this role's replies is known."""
        return applies_to("keywords", role) and self.counts("keywords")
