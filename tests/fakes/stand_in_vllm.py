"""A stand-in for vLLM with the interface that p2r uses, for tests that have to see what it is given."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt, Turn
from p2r.models.vllm.engine import VARIABLES

STAND_IN = '''
"""A stand-in for vLLM: every call is kept, and the reply is made from it."""
import asyncio
import threading
from dataclasses import dataclass, field

from vllm.sampling_params import RequestOutputKind

started, asked, aborted, problems, ended, done, let_go = [], [], [], [], [], [], []
deaths = []  # how many answers each engine to come gives before it dies; without one, it lives


class EngineDeadError(Exception):
    pass


@dataclass
class WeightVersionSpan:
    version: str


@dataclass
class Logprob:
    logprob: float
    decoded_token: str


@dataclass
class CompletionOutput:
    text: str
    token_ids: list
    finish_reason: str
    logprobs: list | None = None
    weight_versions: list | None = None


@dataclass
class RequestOutput:
    prompt_token_ids: list
    outputs: list


class SamplingParams:
    def __init__(
        self,
        *,
        max_tokens,
        temperature,
        top_p,
        repetition_penalty,
        seed,
        logprobs,
        output_kind,
        n=1,
        logit_bias=None,
        ignore_eos=False,
        stop_token_ids=(),
        detokenize=True,
        stop=(),
        include_stop_str_in_output=False,
    ):
        self.__dict__.update(locals())


@dataclass(kw_only=True)
class AsyncEngineArgs:
    model: str
    dtype: str
    max_model_len: int
    limit_mm_per_prompt: dict
    mm_processor_kwargs: dict
    enable_prefix_caching: bool
    disable_log_stats: bool
    enforce_eager: bool = False
    gpu_memory_utilization: float = 0.9
    enable_sleep_mode: bool = False
    logprobs_mode: str = "raw_logprobs"
    worker_extension_cls: str = ""


class Renderer:
    """Newer engines take what this makes of a prompt."""
    async def render_cmpl_async(self, prompts):
        return [{"type": "multimodal", **prompt} for prompt in prompts]


class AsyncLLMEngine:
    @classmethod
    def from_engine_args(cls, args):
        if problems:
            raise problems[0]
        engine = cls()
        engine.loop = asyncio.get_running_loop()
        engine.handler = asyncio.create_task(asyncio.sleep(3600))
        engine.model_config, engine.version, engine.errored = args, "default", False
        engine.num_left = deaths.pop(0) if deaths else None
        if not getattr(args, "is_old", False):
            engine.renderer = Renderer()
        started.append(args)
        return engine

    def shutdown(self, timeout):
        assert timeout > 5
        assert asyncio.get_running_loop() is self.loop
        ended.append(self.handler)

    async def sleep(self, level):
        done.append(f"sleep {level}")

    async def wake_up(self, tags):
        done.append(f"wake {tags}")

    async def collective_rpc(self, method, *, args):
        self._live()
        done.append((method, *args))

    async def update_weight_version(self, new_version):
        self.version = new_version
        done.append(f"version {new_version}")

    def die(self):
        """As when its processes are killed: a thread finds it, and lets go of what the loop has later."""
        if not self.errored:
            self.errored = True
            threading.Timer(0.2, self.loop.call_soon_threadsafe, [self._let_go]).start()

    def _let_go(self):
        self.handler.cancel()
        let_go.append(self.handler)

    def _live(self):
        if self.num_left == 0:
            self.die()
        if self.errored:
            raise EngineDeadError("EngineCore encountered an issue.")
        self.num_left = None if self.num_left is None else self.num_left - 1

    async def generate(self, prompt, sampling_params, request_id):
        assert asyncio.get_running_loop() is self.loop
        if "prompt_token_ids" in prompt:
            asked.append((prompt, sampling_params, request_id))
            await asyncio.sleep(0)
            self._live()
            counts = iter(image.width // 32 * (image.height // 32) for image in prompt["multi_modal_data"]["image"])
            (image_token,) = sampling_params.logit_bias
            tokens = []
            for token in prompt["prompt_token_ids"]:
                tokens += [token] * (next(counts) if token == image_token else 1)
            end = sampling_params.stop_token_ids[0]
            logprobs = [{7: Logprob(-0.5, "Y")}, {end: Logprob(-0.25, "")}]
            spans = [WeightVersionSpan(self.version)]
            reply = CompletionOutput("", [7, end], "stop", logprobs, spans)
            yield RequestOutput(tokens, [reply] * sampling_params.n)
            return
        if problems:
            raise problems[0]
        asked.append((prompt, sampling_params, request_id))
        try:
            if "lost" in prompt["prompt"]:  # the processes have ended, and nobody tells who waits
                self.die()
                await asyncio.Future()
            if "dropped" in prompt["prompt"]:  # what was to be sent is given up with its socket
                self.die()
                raise asyncio.CancelledError
            while "wait" in prompt["prompt"]:
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            aborted.append(request_id)
            raise
        images = prompt.get("multi_modal_data", {"image": []})["image"]
        num_visual = sum(image.width // 32 * (image.height // 32) for image in images)
        if "shrunk" in prompt["prompt"]:
            num_visual //= 4
        tokens = [0] * (num_visual + len(prompt["prompt"]) // 4)
        cut = sampling_params.max_tokens < 3
        logprobs = [{7: Logprob(-0.1, "Yes"), 8: Logprob(-3.0, "No")}] if sampling_params.logprobs else None
        reason = "abort" if "abort" in prompt["prompt"] else "length" if cut else "stop"
        if sampling_params.output_kind is RequestOutputKind.CUMULATIVE:  # some tokens are no text yet
            for text, ids in (("Yes", [7]), ("Yes", [7, 1])):
                yield RequestOutput(tokens, [CompletionOutput(text, ids, None)])
        yield RequestOutput(tokens, [CompletionOutput("Yes, a star.", [7, 1, 2], reason, logprobs)])
'''
GREEDY = Decoding(max_new_tokens=8)


def ask(text: str, *images: Image.Image, later: tuple[Turn, ...] = ()) -> Prompt:
    return Prompt("reasoner", "Be brief.", text, images or (Image.new("RGB", (256, 256)),), "set", later)


@contextmanager
def installed(place: Path) -> Iterator[ModuleType]:
    """A fresh stand-in, importable as `vllm`."""
    package = place / "site" / "vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "sampling_params.py").write_text(
        "from enum import Enum\nRequestOutputKind = Enum('K', 'FINAL_ONLY CUMULATIVE')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package.parent)
        for variable in VARIABLES:
            patch.setenv(variable, "")  # so that it is put back
            patch.delenv(variable)
        import vllm  # pyright: ignore[reportMissingImports]

        yield vllm
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        del sys.modules[name]
