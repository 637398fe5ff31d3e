"""A checkpoint run by vLLM in this process: its continuous batching and prefix cache without a server beside it.

Images are sized here, within the limits of the checkpoint's own processor, and vLLM is given the same limits, so that
it resizes nothing; its token counts are compared with those of the images. The chat text is rendered here, as for a
local model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pydantic import JsonValue

from p2r.dialogue import Decoding, ModelProfile, Prompt, visual_tokens
from p2r.errors import ConfigError, ModelError, count_nouns
from p2r.models.checkpoint import Checkpoint
from p2r.models.profiles import FamilyName
from p2r.models.server.dialect import MOST_TOP_LOGPROBS
from p2r.models.server.token_check import TokenCheck
from p2r.models.vllm.engine import VllmEngine
from p2r.models.vllm.interface import CompletionOutput
from p2r.types import Completion, Frame, Usage

MOST_IMAGES = 8
"""Most images in one prompt. The reasoner of p2r is shown four."""
TEXT_TOKENS = 8192
"""Tokens for the text and the reply beside the images. vLLM reserves memory for them in each prompt."""
ENGINE_MEMORY = 0.4
"""Share of a GPU's memory that vLLM may take in training, unless gpu_memory_utilization says otherwise: the policy is
there too."""
OWN_ARGS = {
    "model": "name the model after vllm:",
    "dtype": "give `dtype`",
    "mm_processor_kwargs": "give `max_pixels`",
    "limit_mm_per_prompt": f"a prompt has at most {MOST_IMAGES} images",
}
"""Arguments of the engine that are set here, and what to do in their place."""


class Renderer(Protocol):
    """Makes the chat text of a prompt, as `encoding.PromptEncoder` does."""

    def render(self, prompt: Prompt) -> str:
        """Return the chat text up to where the reply begins."""
        ...


class VllmModel:
    """A model in vLLM's engine. Build it with `VllmModel.load`."""

    def __init__(self, name: str, profile: ModelProfile, renderer: Renderer, engine_args: Mapping[str, object]) -> None:
        self.name, self.profile, self._renderer = name, profile, renderer
        self.dtype = str(engine_args["dtype"])
        self._engine = VllmEngine(engine_args)
        self._token_check = TokenCheck(name)

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        name: str,
        dtype: str | None = None,
        family: FamilyName | None = None,
        frame: Frame | None = None,
        max_pixels: int | None = None,
        engine_args: Mapping[str, JsonValue] | None = None,
    ) -> VllmModel:
        """Start an engine.

        Args:
            name: the model's name in traces.
            dtype: "bfloat16", ...; the checkpoint's own by default.
            family, frame: as in `Checkpoint.profile`.
            max_pixels: most pixels per image, in place of the profile's.
            engine_args: more arguments of vLLM's engine by name, such as {"enforce_eager": True}.

        Raises:
            ModelError: vLLM cannot be imported, or cannot run the model.
            ConfigError: the frame, the pixel limit or an engine argument is not usable.
        """
        from p2r.models.local.encoding import PromptEncoder

        check_own_args(engine_args or {})
        profile = checkpoint.profile(family=family, frame=frame, max_pixels=max_pixels, for_server=True)
        args = make_engine_args(checkpoint, profile, dtype) | dict(engine_args or {})
        return cls(name, profile, PromptEncoder(checkpoint), args)

    def close(self) -> None:
        """End the engine and its processes, which the end of the program does as well."""
        self._engine.close()

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Reply to a prompt. vLLM batches concurrent calls; a call that is cancelled is aborted there too.

        Raises:
            ModelError: the prompt holds too many images, or vLLM gives no reply.
        """
        return await self._reply(prompt, decoding, None)

    async def stream(self, prompt: Prompt, decoding: Decoding, on_text: Callable[[str], None]) -> Completion:
        """Reply as `complete` does, and tell the text as it is generated. Raises as `complete` does."""
        return await self._reply(prompt, decoding, on_text)

    async def _reply(self, prompt: Prompt, decoding: Decoding, on_text: Callable[[str], None] | None) -> Completion:
        images = prompt.all_images
        if len(images) > MOST_IMAGES:
            raise ModelError(
                f"a prompt holds {count_nouns(len(images), 'image')}; vLLM is set to at most {MOST_IMAGES}",
                hint="ask in a mode that looks less often, or serve the model and give its URL#model",
            )
        started = time.perf_counter()
        request: dict[str, object] = {"prompt": self._renderer.render(prompt)}
        if images:
            request["multi_modal_data"] = {"image": list(images)}
        try:
            output = await self._engine.generate(request, make_sampling_args(decoding), on_text)
        except ModelError as error:
            raise ModelError(f"{self.name} failed while generating: {error.message}", hint=error.hint) from error
        reply = output.outputs[0]
        if reply.finish_reason not in ("stop", "length"):
            raise ModelError(f"{self.name} gave up on a reply: {reply.finish_reason}")
        tokens = visual_tokens(images, self.profile.budget.factor)
        num_prompt = len(output.prompt_token_ids)
        text = prompt.system + "".join(turn.text for turn in prompt.turns)
        return Completion(
            text=reply.text,
            finish_reason="stop" if reply.finish_reason == "stop" else "length",
            model=self.name,
            usage=Usage(visual_tokens=tokens, prompt_tokens=num_prompt, generated_tokens=len(reply.token_ids)),
            seconds=time.perf_counter() - started,
            altered=self._token_check.compare(text, tokens, num_prompt),
            first_probs=_first_probs(reply, decoding.first_words),
        )


def check_own_args(engine_args: Mapping[str, JsonValue]) -> None:
    """Make sure that no argument is one that is set here. Raises ConfigError."""
    own = next((argument for argument in engine_args if argument in OWN_ARGS), None)
    if own is not None:
        raise ConfigError(f"the engine argument {own} is set by p2r", hint=OWN_ARGS[own])


def make_engine_args(checkpoint: Checkpoint, profile: ModelProfile, dtype: str | None) -> dict[str, object]:
    """Make the engine's arguments: prefixes cached, images left at their size, room for MOST_IMAGES large ones."""
    budget = profile.budget
    wanted = MOST_IMAGES * (budget.max_pixels // budget.factor**2) + TEXT_TOKENS
    return {
        "model": str(checkpoint.folder),
        "dtype": dtype or "auto",
        "max_model_len": min(wanted, checkpoint.max_positions or wanted),
        "limit_mm_per_prompt": {"image": MOST_IMAGES, "video": 0},
        "mm_processor_kwargs": {"size": {"shortest_edge": budget.min_pixels, "longest_edge": budget.max_pixels}},
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }


def make_sampling_args(decoding: Decoding) -> dict[str, object]:
    """Make vLLM's arguments for how tokens are drawn."""
    return {
        "max_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "repetition_penalty": decoding.repetition_penalty,
        "seed": decoding.seed,
        "logprobs": MOST_TOP_LOGPROBS if decoding.first_words else None,
        **({"stop": list(decoding.stop), "include_stop_str_in_output": True} if decoding.stop else {}),
    }


def _first_probs(reply: CompletionOutput, words: Sequence[str]) -> tuple[float, ...]:
    """Return the probability of each word to begin the reply; 0 for a word that is not among the likeliest."""
    likeliest = reply.logprobs[0].values() if words and reply.logprobs else ()
    probs = {token.decoded_token: math.exp(token.logprob) for token in likeliest}
    return tuple(probs.get(word, 0.0) for word in words)
