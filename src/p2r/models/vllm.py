"""A checkpoint run by vLLM in this process: its continuous batching and prefix cache without a server beside it.

Images are sized here, within the limits of the checkpoint's own processor, and vLLM is given the same limits, so that
it resizes nothing; its token counts are compared with those of the images. The chat text is rendered here, as for a
local model. vLLM's engine belongs to one event loop, so it has its own loop in a thread; callers may use any loop.

It uses the public interface of vLLM's V1 engine (`AsyncEngineArgs`, `AsyncLLMEngine`, `SamplingParams`, from 0.11 on).
Tests use a stand-in with that interface, not vLLM itself, which needs a GPU.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from importlib import import_module
from typing import Protocol, TypeVar

from p2r.dialogue import Decoding, ModelProfile, Prompt, visual_tokens
from p2r.errors import ModelError, count_nouns
from p2r.models.checkpoint import Checkpoint, first_line
from p2r.models.profiles import FamilyName
from p2r.models.server.dialect import MOST_TOP_LOGPROBS
from p2r.models.server.token_check import TokenCheck
from p2r.types import Completion, Frame, Usage

MOST_IMAGES = 8
"""Most images in one prompt. The reasoner of p2r is shown four."""
TEXT_TOKENS = 8192
"""Tokens for the text and the reply beside the images. vLLM reserves memory for them in each prompt."""

Result = TypeVar("Result")


class Renderer(Protocol):
    """Makes the chat text of a prompt, as `encoding.PromptEncoder` does."""

    def render(self, prompt: Prompt) -> str:
        """Return the chat text up to where the reply begins."""
        ...


class Logprob(Protocol):
    """The used part of vLLM's class of this name."""

    logprob: float
    decoded_token: str | None


class CompletionOutput(Protocol):
    """The used part of vLLM's class of this name. `logprobs` are by token id, for each position."""

    text: str
    token_ids: Sequence[int]
    finish_reason: str | None
    logprobs: Sequence[Mapping[int, Logprob]] | None


class RequestOutput(Protocol):
    """The used part of vLLM's class of this name. `prompt_token_ids` holds a token per visual token."""

    prompt_token_ids: Sequence[int]
    outputs: Sequence[CompletionOutput]


class AsyncEngine(Protocol):
    """The used part of vLLM's AsyncLLMEngine."""

    def generate(
        self, prompt: Mapping[str, object], sampling_params: object, request_id: str
    ) -> AsyncIterator[RequestOutput]: ...


class VllmModel:
    """A model in vLLM's engine. Build it with `VllmModel.load`."""

    def __init__(self, name: str, profile: ModelProfile, renderer: Renderer, engine_args: Mapping[str, object]) -> None:
        self.name, self.profile, self._renderer = name, profile, renderer
        self._vllm = import_module("vllm")
        import_module("vllm.sampling_params")
        self._token_check = TokenCheck(name)
        self._ids = itertools.count()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="p2r-vllm", daemon=True).start()
        self.dtype = str(engine_args["dtype"])
        try:
            self._engine = self._submit(self._start(engine_args)).result()
        except Exception as error:  # CUDA, Ray and vLLM raise errors of their own
            raise ModelError(
                f"vLLM cannot run {engine_args['model']}: {first_line(error)}",
                hint="its own messages above say more; the model must fit the GPU's memory",
            ) from error

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
    ) -> VllmModel:
        """Start an engine.

        Args:
            name: the model's name in traces.
            dtype: "bfloat16", ...; the checkpoint's own by default.
            family, frame: as in `Checkpoint.profile`.
            max_pixels: most pixels per image, in place of the profile's.

        Raises:
            ModelError: vLLM cannot run the model.
            ConfigError: the frame or the pixel limit is not usable.
        """
        from p2r.models.local.encoding import PromptEncoder

        profile = checkpoint.profile(family=family, frame=frame, max_pixels=max_pixels, for_server=True)
        return cls(name, profile, PromptEncoder(checkpoint), make_engine_args(checkpoint, profile, dtype))

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Reply to a prompt. vLLM batches concurrent calls; a call that is cancelled is aborted there too.

        Raises:
            ModelError: the prompt holds too many images, or vLLM gives no reply.
        """
        images = prompt.all_images
        if len(images) > MOST_IMAGES:
            raise ModelError(
                f"a prompt holds {count_nouns(len(images), 'image')}; vLLM is set to at most {MOST_IMAGES}"
            )
        started = time.perf_counter()
        request: dict[str, object] = {"prompt": self._renderer.render(prompt)}
        if images:
            request["multi_modal_data"] = {"image": list(images)}
        try:
            output = await asyncio.wrap_future(self._submit(self._generate(request, make_sampling_args(decoding))))
        except Exception as error:  # vLLM's errors have no common ancestor
            raise ModelError(f"{self.name} failed while generating: {first_line(error)}") from error
        reply = output.outputs[0]
        if reply.finish_reason not in ("stop", "length"):
            raise ModelError(f"{self.name} gave up on a reply: {reply.finish_reason}")
        tokens = visual_tokens(images, self.profile.budget.factor)
        num_prompt = len(output.prompt_token_ids)
        text = prompt.system + "".join(turn.text for turn in prompt.turns)
        self._token_check.compare(text, tokens, num_prompt)
        return Completion(
            text=reply.text,
            finish_reason="stop" if reply.finish_reason == "stop" else "length",
            model=self.name,
            usage=Usage(visual_tokens=tokens, prompt_tokens=num_prompt, generated_tokens=len(reply.token_ids)),
            seconds=time.perf_counter() - started,
            first_probs=_first_probs(reply, decoding.first_words),
        )

    async def _start(self, engine_args: Mapping[str, object]) -> AsyncEngine:
        """Start the engine on its own loop, to which it then belongs."""
        return self._vllm.AsyncLLMEngine.from_engine_args(self._vllm.AsyncEngineArgs(**engine_args))

    async def _generate(self, request: Mapping[str, object], sampling_args: Mapping[str, object]) -> RequestOutput:
        """Return the output that vLLM yields at the end."""
        whole = self._vllm.sampling_params.RequestOutputKind.FINAL_ONLY
        sampling = self._vllm.SamplingParams(**sampling_args, output_kind=whole)
        last: RequestOutput | None = None
        async for output in self._engine.generate(request, sampling, f"p2r-{next(self._ids)}"):
            last = output
        if last is None:
            raise ModelError("no output")
        return last

    def _submit(self, work: Coroutine[object, object, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def make_engine_args(checkpoint: Checkpoint, profile: ModelProfile, dtype: str | None) -> dict[str, object]:
    """Make the engine's arguments: prefixes cached, images left at their size, room for MOST_IMAGES large ones."""
    budget = profile.budget
    wanted = MOST_IMAGES * (budget.max_pixels // budget.factor**2) + TEXT_TOKENS
    return {
        "model": str(checkpoint.folder),
        "dtype": dtype or "auto",
        "max_model_len": min(wanted, checkpoint.max_positions or wanted),
        "limit_mm_per_prompt": {"image": MOST_IMAGES, "video": 0},
        "mm_processor_kwargs": {"min_pixels": budget.min_pixels, "max_pixels": budget.max_pixels},
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
    }


def _first_probs(reply: CompletionOutput, words: Sequence[str]) -> tuple[float, ...]:
    """Return the probability of each word to begin the reply; 0 for a word that is not among the likeliest."""
    likeliest = reply.logprobs[0].values() if words and reply.logprobs else ()
    probs = {token.decoded_token: math.exp(token.logprob) for token in likeliest}
    return tuple(probs.get(word, 0.0) for word in words)
