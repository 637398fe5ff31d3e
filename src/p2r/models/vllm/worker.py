"""A call for vLLM's workers: take the weights of another checkpoint, those of the output layer among them.

vLLM adds `WeightReader` to the worker of its own processes, by the engine argument worker_extension_cls.
"""

# vLLM is not installed where types are checked:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingImports=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any


class WeightReader:
    """The part of a worker that is ours."""

    def read_weights(self, folder: str) -> None:
        """Take the weights in the folder of a checkpoint, in place.

        On CPUs, layers compute with a packed copy of their weights. vLLM packs again whatever it reads, but not an
        output layer that shares the weights of the embedding, so that is packed here.
        """
        worker: Any = self
        worker.reload_weights(weights_path=folder)
        for layer in worker.get_model().modules():
            if hasattr(layer, "cpu_linear") and layer.weight.numel():
                from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

                dispatch_cpu_unquantized_gemm(layer, remove_weight=False)
