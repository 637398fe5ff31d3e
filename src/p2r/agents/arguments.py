"""What the tools take: their arguments, as an agent reads about them, and as they are checked."""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from p2r.errors import excerpt, explain_fault
from p2r.serving.refusal import BAD_REQUEST, Refused

Arguments = TypeVar("Arguments", bound=BaseModel)
_RULES: dict[tuple[int | str, ...], str] = {("box",): "it must be [left, top, right, bottom]"}


def _read_list(value: object) -> object:
    """Return a list that an agent has written as text, such as "[1, 2]", as a list."""
    if isinstance(value, str):
        try:
            return cast(object, json.loads(value))
        except (ValueError, RecursionError):
            return value
    return value


class _ToolArguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)] = Field(description="The image.")


class LookArguments(_ToolArguments):
    """An image, and what is asked about it."""

    question: Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)] = Field(
        description="What is asked about the image."
    )


class AskArguments(LookArguments):
    """An image, and a question with the answers to choose from, if there are any."""

    options: Annotated[list[str], BeforeValidator(_read_list)] = Field(
        default=[], description="The answers to choose from; the answer is then a letter. Leave it out for an open one."
    )


class CropArguments(_ToolArguments):
    """An image, and a part of it."""

    box: Annotated[
        list[Annotated[float, Field(allow_inf_nan=False)]],
        Field(min_length=4, max_length=4),
        BeforeValidator(_read_list),
    ] = Field(description="[left, top, right, bottom] of the part.")
    unit: Literal["pixels", "per_mille"] = Field(
        default="pixels", description="The unit of the box: pixels of the whole image, or 0 to 1000 of its sides."
    )


def read_arguments(kind: type[Arguments], given: dict[str, object]) -> Arguments:
    """Check what an agent has given to a tool. Raises Refused, which names the first argument that is wrong.

    Some agents write null for what they leave out.
    """
    optional = {name for name, about in kind.model_fields.items() if not about.is_required()}
    try:
        return kind.model_validate({k: v for k, v in given.items() if v is not None or k not in optional})
    except ValidationError as error:
        fault = error.errors()[0]
    if fault["type"] == "extra_forbidden":
        name = excerpt(str(fault["loc"][0]))
        raise Refused(BAD_REQUEST, f"there is no argument {name}: the tool takes {', '.join(kind.model_fields)}")
    rule = "" if fault["type"] == "missing" else _RULES.get(fault["loc"], "")
    raise Refused(BAD_REQUEST, explain_fault(fault, rule))
