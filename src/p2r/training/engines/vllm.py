"""A policy whose replies vLLM samples, in processes beside this one, with the weights that the policy has at the time.

The weights change with each update. So the policy writes them as a checkpoint into memory (/dev/shm; the run's folder
where there is no room), and vLLM reads it before a step's rollouts. Every reply says the version of the weights that it
was drawn with, and one that is not the policy's is an error: rollouts cannot be stale. During an update vLLM sleeps, so
that its share of a GPU's memory is free.

An engine that dies is started again with the policy's weights, and what it has not answered is asked again, with the
same seeds.

The engine may also be a server, see `vllm_server`. Several processes ask the same one, and the first gives it weights.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from shutil import disk_usage, rmtree
from typing import Protocol

from pydantic import JsonValue

from p2r.dialogue import Decoding, Prompt
from p2r.errors import ModelError, count_nouns
from p2r.loop import LONGEST_WAIT_S
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Abandoned
from p2r.models.local.patches import unpatchify
from p2r.models.vllm.engine import VllmEngine
from p2r.models.vllm.interface import RequestOutput
from p2r.models.vllm.model import (
    ENGINE_MEMORY,
    MOST_IMAGES,
    check_own_args,
    make_engine_args,
    make_sampling_args,
)
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.training.engines.local.policy import Policy

MEMORY = Path("/dev/shm")
MOST_DEATHS = 3
"""Deaths of the engine without a reply between them before the run is stopped."""
NEVER = -100.0
"""Added to the logit of a token that is not to be drawn: the least that vLLM takes."""
NEEDED_ARGS = {
    "logprobs_mode": "processed_logprobs",
    "worker_extension_cls": "p2r.models.vllm.worker.WeightReader",
}
"""Log-probs of the distribution that tokens are drawn from, and a way to change the weights."""


class SamplingEngine(Protocol):
    """An engine of vLLM: `VllmEngine`, or `VllmServer`. Its methods raise ModelError.

    loop: the event loop in which `generate` is called.
    max_tokens: the most tokens of a prompt and its reply.
    """

    loop: asyncio.AbstractEventLoop
    max_tokens: int

    @property
    def is_dead(self) -> bool: ...

    def close(self) -> None: ...

    def sleep(self) -> None: ...

    def read_weights(self, folder: Path, version: str) -> None: ...

    async def generate(self, request: Mapping[str, object], sampling_args: Mapping[str, object]) -> RequestOutput: ...


class VllmActor:
    """The policy, sampled by vLLM. Only in the block of `awake`.

    version: tells the version of the policy's weights.
    write: writes them as a checkpoint. All processes call it.
    folder: where it may write files, if there is not enough memory for them.
    """

    name = "policy"

    def __init__(
        self,
        policy: Policy,
        engine_args: Mapping[str, JsonValue],
        *,
        version: Callable[[], int],
        write: Callable[[Path], object],
        folder: Path,
        start: Callable[[Mapping[str, object]], SamplingEngine] | None = None,
        is_here: bool = True,
        world: World | None = None,
    ) -> None:
        """Start the engine.

        Args:
            start: starts it, or finds it, by its arguments; None for one beside the policy, on the same GPU.
            is_here: whether it reads the memory of this machine.
            world: the processes that ask it.

        Raises:
            ModelError: vLLM cannot be imported, or cannot run the model, or the server does not answer.
            ConfigError: an engine argument is not usable.
        """
        check_own_args(engine_args)
        self.profile, self._encoder, self._version, self._write = policy.profile, policy.encoder, version, write
        self._image_token, self._patches = policy.checkpoint.image_token_id, policy.checkpoint.patches
        dtype = str(policy.dtype).removeprefix("torch.")
        args = {**make_engine_args(policy.checkpoint, policy.profile, dtype), **engine_args, **NEEDED_ARGS}
        beside = {"gpu_memory_utilization": ENGINE_MEMORY, "enable_sleep_mode": policy.device.type == "cuda"}
        self._start = partial(start, args) if start is not None else partial(VllmEngine, {**beside, **args})
        num_bytes = sum(weight.numel() for weight in policy.model.parameters()) * policy.dtype.itemsize
        self._folder = find_place(folder, num_bytes, in_memory=is_here)
        self._world = world or World()
        self._num_deaths, self._is_awake = 0, False
        self._engine = self._start()

    def close(self) -> None:
        """End the engine and its processes."""
        self._engine.close()
        self._clear()

    def _clear(self) -> None:
        """Delete the weights that were written."""
        if self._world.is_first:
            rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def awake(self) -> Generator[None, None, None]:
        """Let vLLM sample in the block, with the weights that the policy has now; it sleeps afterwards.

        All processes enter, and leave when all have sampled.

        Raises:
            ModelError: vLLM cannot take the weights.
            StorageError: they cannot be written.
        """
        self._clear()  # a killed run has left it
        try:
            self._write(self._folder)
            if self._world.is_first:
                self._read_weights()
            self._world.wait()
            if not self._world.is_first:  # it has them already
                self._read_weights()
            self._is_awake = True
            yield
        finally:
            self._is_awake = False
            with suppress(ModelError):  # one that has died is started again when it is wanted
                self._engine.sleep()
            self._clear()

    def encode(self, prompt: Prompt) -> EncodedPrompt:
        encoded, most = self._encoder.encode(prompt), self._engine.max_tokens
        if len(encoded.patches) > MOST_IMAGES:
            raise ModelError(f"a prompt holds {count_nouns(len(encoded.patches), 'image')}; vLLM takes {MOST_IMAGES}")
        if len(encoded.token_ids) >= most:
            raise ModelError(
                f"the prompt has {count_nouns(len(encoded.token_ids), 'token')}, and vLLM takes fewer than {most}",
                hint="raise engine.max_model_len, or lower `max_pixels`",
            )
        return encoded

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._encoder.decode(token_ids)

    def sample(
        self, wanted: Iterable[Wanted], decoding: Decoding, num_at_once: int, abandoned: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Generated]]]:
        """Do as `EngineActor` does, but the replies to a prompt are drawn with its first seed and those after it."""
        assert self._is_awake, "vLLM is asked while it sleeps"
        asked: dict[Future[RequestOutput], tuple[int, Wanted]] = {}
        try:
            for place, one in enumerate(wanted):
                asked[self._ask(one, decoding)] = place, one
                while len(asked) >= num_at_once:
                    yield from self._answer(asked, decoding, abandoned)
            while asked:
                yield from self._answer(asked, decoding, abandoned)
        finally:
            for each in asked:
                each.cancel()

    def _ask(self, one: Wanted, decoding: Decoding) -> Future[RequestOutput]:
        prompt = one.prompt
        images = [unpatchify(*each, self._patches) for each in zip(prompt.patches, prompt.grids, strict=True)]
        request = {
            "prompt_token_ids": fold_images(prompt, self._image_token),
            **({"multi_modal_data": {"image": images}} if images else {}),
        }
        sampling = {
            **make_sampling_args(decoding),
            "max_tokens": min(decoding.max_new_tokens, self._engine.max_tokens - len(prompt.token_ids)),
            "n": len(one.seeds),
            "seed": one.seeds[0],
            "logprobs": 0,  # of the drawn token alone
            "logit_bias": {self._image_token: NEVER},
            "ignore_eos": True,  # what ends a reply is said here, as for our own engine
            "stop_token_ids": list(self._encoder.end_token_ids),
            "detokenize": False,
        }
        return asyncio.run_coroutine_threadsafe(self._engine.generate(request, sampling), self._engine.loop)

    def _answer(
        self, asked: dict[Future[RequestOutput], tuple[int, Wanted]], decoding: Decoding, abandoned: Callable[[], bool]
    ) -> Iterator[tuple[int, list[Generated]]]:
        """Wait for replies for a while, and take those that have come out of `asked`."""
        ended, _ = wait(asked, LONGEST_WAIT_S, FIRST_COMPLETED)
        if abandoned():
            raise Abandoned
        for each in sorted(ended, key=lambda reply: reply.exception() is not None):  # what is there is kept
            try:
                output = each.result()
            except ModelError:
                self._num_deaths += 1
                if not self._engine.is_dead or self._num_deaths > MOST_DEATHS:
                    raise
                self._read_weights()
                again = [*asked.values()]
                asked.clear()
                asked.update({self._ask(one, decoding): (place, one) for place, one in again})
                return
            self._num_deaths = 0
            place, one = asked.pop(each)
            yield place, read_output(output, one.prompt, str(self._version()))

    def _read_weights(self) -> None:
        """Give the engine the weights in the folder, and start it again if it is dead, or dies of them once."""
        for is_last in (False, True):
            if self._engine.is_dead:
                self._engine.close()
                self._engine = self._start()
            try:
                self._engine.read_weights(self._folder, str(self._version()))
            except ModelError:
                if is_last or not self._engine.is_dead:
                    raise
            else:
                return


def read_output(output: RequestOutput, prompt: EncodedPrompt, version: str) -> list[Generated]:
    """Return the replies to a prompt.

    Args:
        version: of the policy's weights.

    Raises:
        ModelError: vLLM has read another prompt, has not finished a reply, or has drawn it with other weights.
    """
    if tuple(output.prompt_token_ids) != prompt.token_ids:
        raise ModelError(
            f"vLLM has read a prompt of {count_nouns(len(output.prompt_token_ids), 'token')} as one of "
            f"{len(prompt.token_ids)}: it has changed its images"
        )
    replies: list[Generated] = []
    for reply in output.outputs:
        if reply.finish_reason not in ("stop", "length"):
            raise ModelError(f"vLLM gave up on a reply of the policy: {reply.finish_reason}")
        versions = {span.version for span in reply.weight_versions or ()}
        if versions != {version}:
            drawn = " and ".join(sorted(versions)) or "unknown"
            raise ModelError(f"a rollout was drawn with weights of version {drawn}, and the policy has {version}")
        drawn_with = zip(reply.token_ids, reply.logprobs or (), strict=True)
        logprobs = tuple(each[token].logprob for token, each in drawn_with)
        replies.append(Generated(tuple(reply.token_ids), reply.finish_reason == "stop", logprobs))
    return replies


def fold_images(prompt: EncodedPrompt, image_token: int) -> list[int]:
    """Return the prompt with one token for each image, as vLLM wants it, in place of one per visual token."""
    folded: list[int] = []
    tokens, counts = iter(prompt.token_ids), iter(prompt.visual_tokens)
    for token in tokens:
        folded.append(token)
        if token == image_token:
            for _ in range(next(counts) - 1):
                next(tokens)
    return folded


def find_place(folder: Path, num_bytes: int, *, in_memory: bool = True) -> Path:
    """Find a place for a checkpoint of this size: in memory if there is room and it may be there, else in the folder.

    A run has the same one each time, so that it finds what a killed one has left.
    """
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    if in_memory and MEMORY.is_dir() and disk_usage(MEMORY).free > 1.1 * num_bytes:
        return MEMORY / f"p2r-{name}"
    return folder.absolute() / "weights-for-vllm"
