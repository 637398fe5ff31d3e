"""What goes to a server of vLLM 0.32, and what comes from it: its arguments, prompts and replies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field, ValidationError, field_validator

from p2r.errors import EndpointError, explain_fault

UNNAMED = "default"
"""The version of the weights that vLLM began with."""


class Drawn(BaseModel):
    """A token and its log-prob."""

    token_id: int
    logprob: float


class Span(BaseModel):
    """Some tokens were drawn with the weights of this version."""

    version: str


class ServedReply(BaseModel):
    """A reply in the form of vLLM's own class: log-probs are by token id."""

    token_ids: list[int]
    finish_reason: str | None
    logprobs: list[dict[int, Drawn]]
    weight_versions: list[Span] | None = None

    @field_validator("logprobs", mode="before")
    @classmethod
    def _sort_by_token(cls, given: Mapping[str, list[Mapping[str, object]]]) -> list[dict[object, object]]:
        return [{each["token_id"]: each} for each in given["content"]]

    @property
    def has_no_weights(self) -> bool:
        """Tell whether an engine gave it, or gave up on it, that has just been started."""
        versions = {span.version for span in self.weight_versions or ()}
        return versions == {UNNAMED} or (not versions and self.finish_reason == "abort")


class ServedOutput(BaseModel):
    """The replies to a prompt."""

    prompt_token_ids: list[int]
    outputs: list[ServedReply] = Field(alias="choices")


def read_served_output(told: object) -> ServedOutput:
    """Read what the server sent. Raises EndpointError when it has another form."""
    try:
        return ServedOutput.model_validate(told)
    except (ValidationError, LookupError, TypeError) as error:
        why = explain_fault(error.errors()[0]) if isinstance(error, ValidationError) else repr(error)
        raise EndpointError(f"vLLM sent a reply of another form: {why}", hint="install vLLM 0.32") from error


def make_body(request: Mapping[str, object], sampling_args: Mapping[str, object], urls: Sequence[str]) -> object:
    """Make the request for a prompt of vLLM's form, with its images as URLs."""
    return {
        "token_ids": request["prompt_token_ids"],
        "sampling_params": {**sampling_args},
        "return_token_ids": True,
        "content_parts": [{"type": "image_url", "url": url} for url in urls] or None,
    }


def make_options(engine_args: Mapping[str, object]) -> list[str]:
    """Write arguments of vLLM's engine as those of `vllm serve`, apart from the model."""
    options = ["--enable-scale-out"]
    for name, value in engine_args.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        elif name != "model":
            options += [f"--{option}", value if isinstance(value, str) else json.dumps(value)]
    return options
