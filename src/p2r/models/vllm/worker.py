"""A call for vLLM's workers: take the weights of another checkpoint, and draw by seeds on CPUs too.

vLLM adds `WeightReader` to the worker of its own processes, by the engine argument worker_extension_cls. It mends two
faults of vLLM's build for CPUs (0.32).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class WeightReader:
    """The part of a worker that is ours."""

    def describe_engine(self) -> dict[str, str | int]:
        """Tell what a trainer that asks over HTTP has to know of the engine, by the names of its arguments."""
        worker: Any = self
        config = worker.model_config
        return {
            "dtype": str(config.dtype).removeprefix("torch."),
            "logprobs_mode": str(config.logprobs_mode),
            "max_model_len": int(config.max_model_len),
        }

    def read_weights(self, folder: str) -> None:
        """Take the weights in the folder of a checkpoint, in place.

        On CPUs, layers compute with a packed copy of their weights. vLLM packs again what it reads, but not an output
        layer that shares the weights of the embedding, so that is packed here.
        """
        worker: Any = self
        if worker.device.type == "cpu":
            mend_generators()
        worker.reload_weights(weights_path=folder)
        for layer in worker.get_model().modules():
            if hasattr(layer, "cpu_linear") and layer.weight.numel():
                pack = import_module("vllm.model_executor.layers.utils").dispatch_cpu_unquantized_gemm
                pack(layer, remove_weight=False)


def mend_generators() -> None:
    """Let generators of random numbers on CPUs go back to their seeds.

    vLLM draws a token also when it has read a part of a prompt alone, throws it away, and takes the draw back by the
    generator's offset, which those on CPUs do not have. Nothing that counts has been drawn before.
    """
    torch: Any = import_module("torch")

    class SeededGenerator(torch.Generator):
        def get_offset(self) -> int:
            return 0

        def set_offset(self, offset: int) -> None:
            self.manual_seed(self.initial_seed())

    if torch.Generator.__name__ != SeededGenerator.__name__:
        torch.Generator = SeededGenerator
