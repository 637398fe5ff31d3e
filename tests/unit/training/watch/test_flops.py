"""MFU: the operations of an update, against those of every product with weights that the model really makes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from p2r.training.groups import Group, RolloutStats  # noqa: E402
from p2r.training.update import Learner, learn_step  # noqa: E402
from p2r.training.watch import metrics  # noqa: E402
from p2r.training.watch.stopwatch import Stopwatch  # noqa: E402
from tests.fakes.tiny_policy import make_groups, make_learner  # noqa: E402

PEAK = 1e6


class Products:
    """Adds up the operations of the products with weights, forward, by whose they are."""

    def __init__(self, learner: Learner) -> None:
        self.counted = Counter[str]()
        models = {"policy": learner.policy.model, "reference": learner.snapshot.engine.model}
        for name, model in models.items():
            self._watch(name, model.model.language_model.layers, model.lm_head)
            self._watch(f"{name}'s tower", model.model.visual.blocks)

    def _watch(self, name: str, *modules: nn.Module) -> None:
        def count(module: nn.Linear, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
            self.counted[name] += 2 * inputs[0].numel() * module.out_features

        for module in (part for each in modules for part in each.modules() if isinstance(part, nn.Linear)):
            module.register_forward_hook(count)


def repeat_replies(group: Group) -> Group:
    """Replies of which all but the last are equal."""
    first, *_, last = group.rollouts
    equal = [replace(each, token_ids=first.token_ids) for each in group.rollouts[:-1]]
    return replace(group, rollouts=(*equal, last))


def measure_mfu(learner: Learner, groups: list[Group], monkeypatch: pytest.MonkeyPatch) -> float:
    """MFU of an update that took a second, on a device of which `PEAK` is the most."""
    monkeypatch.setattr(metrics, "peak_flops", lambda: PEAK)
    watch = Stopwatch()
    report = learn_step(learner, groups, 1e-3, watch).report
    has_reference = "reference" in watch.seconds
    watch.seconds.clear()
    watch.seconds.update({"rollout": 0.0, "forward": 1.0} | ({"reference": 0.0} if has_reference else {}))
    return metrics.time_step(learner, watch, RolloutStats(), report)["mfu"]


@pytest.mark.parametrize("is_frozen", [True, False])
@pytest.mark.parametrize("kl_coef", [0.0, 0.01])
@pytest.mark.parametrize("num_updates", [1, 2])
def test_mfu_counts_the_products_that_are_made(
    num_updates: int, kl_coef: float, is_frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner([f"optimizer.updates_per_batch={num_updates}", f"loss.kl_coef={kl_coef}"])
    learner.policy.model.model.visual.requires_grad_(not is_frozen)
    groups = [repeat_replies(each) for each in make_groups((1.0, 1.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))]
    products = Products(learner)

    mfu = measure_mfu(learner, groups, monkeypatch)

    made = products.counted
    towers = 0 if is_frozen else 3 * made["policy's tower"] + made["reference's tower"]
    assert mfu * PEAK == pytest.approx(3 * made["policy"] + made["reference"] + towers, rel=1e-4)
    assert (made["reference"] > 0) == (kl_coef > 0)
