"""vLLM's CPU build drops the weights of linear layers when it has packed them: none could be updated. For tests."""

import torch
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


def _leave_as_it_is(layer, remove_weight=False):
    layer.cpu_linear = torch.nn.functional.linear


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """Leaves them unpacked."""

    def __new__(cls, **kwargs):
        import vllm.model_executor.layers.utils as utils

        utils.dispatch_cpu_unquantized_gemm = _leave_as_it_is
        return super().__new__(cls, **kwargs)
