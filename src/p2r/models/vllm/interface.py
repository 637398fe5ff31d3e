"""The part of vLLM's public interface that is used here, for type checks: vLLM is seldom installed where they run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol


class Logprob(Protocol):
    """The used part of vLLM's class of this name."""

    logprob: float
    decoded_token: str | None


class WeightVersionSpan(Protocol):
    """The used part of vLLM's class of this name: some tokens were drawn with the weights of this version."""

    version: str


class CompletionOutput(Protocol):
    """The used part of vLLM's class of this name. `logprobs` are by token id, for each position."""

    text: str
    token_ids: Sequence[int]
    finish_reason: str | None
    logprobs: Sequence[Mapping[int, Logprob]] | None
    weight_versions: Sequence[WeightVersionSpan] | None


class RequestOutput(Protocol):
    """The used part of vLLM's class of this name. `prompt_token_ids` holds a token per visual token."""

    prompt_token_ids: Sequence[int]
    outputs: Sequence[CompletionOutput]


class PromptReader(Protocol):
    """The used part of vLLM's renderer: it makes of a prompt what the engine takes, beside the loop."""

    async def render_cmpl_async(self, prompts: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]: ...


class ModelConfig(Protocol):
    """The used part of vLLM's class of this name."""

    max_model_len: int


class AsyncEngine(Protocol):
    """The used part of vLLM's AsyncLLMEngine. Newer ones have a `renderer`, and versions of weights."""

    errored: bool
    model_config: ModelConfig

    def generate(
        self, prompt: Mapping[str, object], sampling_params: object, request_id: str
    ) -> AsyncIterator[RequestOutput]: ...

    def shutdown(self, timeout: float | None = None) -> None: ...

    async def sleep(self, level: int) -> None: ...

    async def wake_up(self, tags: list[str]) -> object: ...

    async def collective_rpc(self, method: str, *, args: tuple[str, ...]) -> object: ...

    async def update_weight_version(self, new_version: str) -> None: ...
