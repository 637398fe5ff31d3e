"""What is mended in vLLM's workers on CPUs. tests/integration/test_vllm_rollouts.py asks the real ones."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from p2r.models.vllm.worker import WeightReader, mend_generators  # noqa: E402


class Worker(WeightReader):
    """In place of vLLM's: the output layer has the weights of the embedding, and a linear layer has none left."""

    def __init__(self, kind: str) -> None:
        self.device, self.done = torch.device(kind), list[str]()
        weight = torch.ones(2, 2)
        self.layers = {
            "head": SimpleNamespace(cpu_linear="old", weight=weight),
            "linear": SimpleNamespace(cpu_linear="new", weight=torch.empty(0)),
            "norm": SimpleNamespace(weight=weight),
        }

    def reload_weights(self, *, weights_path: str) -> None:
        self.done.append(weights_path)

    def get_model(self) -> SimpleNamespace:
        return SimpleNamespace(modules=self.layers.values)


def test_layers_that_keep_their_weights_are_packed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "Generator", torch.Generator)  # so that it is put back

    def pack(layer: SimpleNamespace, *, remove_weight: bool) -> None:
        assert not remove_weight
        layer.cpu_linear = "packed"

    utils = ModuleType("vllm.model_executor.layers.utils")
    utils.dispatch_cpu_unquantized_gemm = pack  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    worker = Worker("cpu")
    worker.read_weights("place")
    assert worker.done == ["place"]
    assert (worker.layers["head"].cpu_linear, worker.layers["linear"].cpu_linear) == ("packed", "new")


def test_a_draw_is_taken_back_to_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "Generator", torch.Generator)
    plain = torch.Generator
    mend_generators()
    mended = torch.Generator
    mend_generators()
    assert torch.Generator is mended
    generator = torch.Generator(device="cpu")
    generator.manual_seed(2**63 - 1)
    first = torch.empty(3).exponential_(generator=generator)
    assert not first.equal(torch.empty(3).exponential_(generator=generator))
    generator.set_offset(generator.get_offset() - 4)
    assert first.equal(torch.empty(3).exponential_(generator=generator))
    assert first.equal(torch.empty(3).exponential_(generator=plain().manual_seed(2**63 - 1)))


def test_nothing_is_mended_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.Generator
    monkeypatch.setattr(torch, "Generator", plain)
    worker = Worker("cuda")
    worker.layers = {}
    worker.read_weights("place")
    assert torch.Generator is plain
