"""A call for vLLM's workers: take the weights of another checkpoint, those of the output layer among them.

vLLM adds `WeightReader` to the worker of its own processes, by the engine argument worker_extension_cls.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class WeightReader:
    """The part of a worker that is ours."""

    def read_weights(self, folder: str) -> None:
        """Take the weights in the folder of a checkpoint, in place.

        On CPUs, layers compute with a packed copy of their weights. vLLM packs again what it reads, but not an output
        layer that shares the weights of the embedding, so that is packed here.
        """
        worker: Any = self
        worker.reload_weights(weights_path=folder)
        for layer in worker.get_model().modules():
            if hasattr(layer, "cpu_linear") and layer.weight.numel():
                pack = import_module("vllm.model_executor.layers.utils").dispatch_cpu_unquantized_gemm
                pack(layer, remove_weight=False)
