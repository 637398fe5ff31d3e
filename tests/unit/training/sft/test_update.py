"""The supervised step: the stock model's own loss and gradient, however rows are packed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

torch = pytest.importorskip("torch")

from p2r.errors import ConfigError, TrainingError  # noqa: E402
from p2r.training.engines.local.distributed import World  # noqa: E402
from p2r.training.engines.local.optimizer import Optimizer  # noqa: E402
from p2r.training.sft.encode import EncodedDemonstration  # noqa: E402
from p2r.training.sft.update import SftReport, learn_demonstrations  # noqa: E402
from p2r.training.update import Learner  # noqa: E402
from tests.fakes.crew import run_crew  # noqa: E402
from tests.fakes.tiny_policy import make_learner, make_model, make_prompt, make_responses, repeated_logits  # noqa: E402

RATE = 1e-3


class Recorder:
    """In place of an optimizer: keeps the gradients as they are before the step."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._masters, self.gradients = optimizer._masters, dict[str, torch.Tensor]()

    def step(self, rate: float) -> float:
        assert rate == RATE
        self.gradients = {n: m.grad.clone() for n, m in self._masters.items() if m.grad is not None}
        return 1.5


def make_rows() -> list[EncodedDemonstration]:
    replies = make_responses([5, 2, 7])
    masks = [(True,) * 5, (False, True), (True, False, False, True, True, False, True)]
    prompts = [make_prompt([(2, 2)], seed=1), make_prompt([], seed=2), make_prompt([(1, 2), (2, 1)], seed=3)]
    return [
        EncodedDemonstration(prompt, tuple(reply), mask)
        for prompt, reply, mask in zip(prompts, replies, masks, strict=True)
    ]


def learn(
    rows: Sequence[EncodedDemonstration],
    pack_tokens: int,
    world: World | None = None,
    learner: Learner | None = None,
) -> tuple[SftReport, dict[str, torch.Tensor], Learner]:
    learner = learner or make_learner()
    recorder = Recorder(learner.optimizer)
    report = learn_demonstrations(
        learner.policy,
        cast(Any, recorder),
        world or World(),
        rows,
        RATE,
        settings=learner.phase.optimizer,
        pack_tokens=pack_tokens,
    )
    return report, recorder.gradients, learner


def reference(rows: Sequence[EncodedDemonstration]) -> tuple[float, dict[str, torch.Tensor]]:
    """Each row through the stock model by itself, and cross-entropy of the learned tokens."""
    model = make_model()
    losses = []
    for row in rows:
        if not row.prompt.grids:
            ids = torch.tensor([[*row.prompt.token_ids, *row.token_ids]])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            logits = logits[0, len(row.prompt.token_ids) - 1 : -1]
        else:
            [(logits, _)] = repeated_logits(model, [(row.prompt, [row.token_ids])])
        each = torch.nn.functional.cross_entropy(logits, torch.tensor(row.token_ids), reduction="none")
        losses.append(each[torch.tensor(row.learned)])
    loss = torch.cat(losses).mean()
    loss.backward()
    return float(loss.detach()), {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }


@pytest.mark.parametrize("pack_tokens", [1, 30, 10_000])
def test_loss_and_gradient_are_the_stock_models(pack_tokens: int) -> None:
    rows = make_rows()
    report, gradients, _ = learn(rows, pack_tokens)
    loss, expected = reference(rows)
    assert report.loss == pytest.approx(loss, rel=1e-10)
    assert report.num_learned == 10
    assert report.num_tokens == sum(len(row.prompt.token_ids) for row in rows) + 14
    assert report.grad_norm == 1.5
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        # Masters are float32.
        torch.testing.assert_close(gradient.double(), expected[name], rtol=1e-5, atol=1e-7)


def freeze_tower(learner: Learner) -> Learner:
    learner.policy.model.model.visual.requires_grad_(False)
    return learner


@pytest.mark.parametrize("shares", [[[0, 1, 2], []], [[2], [0, 1]], [[], [1], [0, 2]]])
def test_wherever_rows_are_processes_learn_what_one_learns(shares: Sequence[Sequence[int]]) -> None:
    rows, lock = make_rows(), threading.Lock()
    alone, expected, _ = learn(rows, 1, learner=freeze_tower(make_learner()))

    def work(world: World) -> tuple[SftReport, dict[str, torch.Tensor], Learner]:
        with lock:  # weights are drawn from the one state of all threads
            learner = freeze_tower(make_learner())
        return learn([rows[place] for place in shares[world.rank]], 1, world, learner)

    found = run_crew(len(shares), work)
    for report, _, _ in found:
        assert report.loss == pytest.approx(alone.loss, rel=1e-10)
        assert (report.num_learned, report.num_tokens) == (alone.num_learned, alone.num_tokens)
    for name, gradient in expected.items():  # FSDP takes the mean over the processes
        mean = sum(own[name] for _, own, _ in found) / len(shares)
        torch.testing.assert_close(mean, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [((), "while the vision tower learns"), (("optimizer.reshard=true",), "while its layers are split")],
)
def test_processes_that_would_wait_for_each_other_are_told(changes: Sequence[str], message: str) -> None:
    _, without, with_both = make_rows()
    learner = make_learner(changes)
    own = (learner.policy, learner.optimizer)

    def work(world: World) -> SftReport:
        row = (without, with_both)[world.rank]
        return learn_demonstrations(*own, world, [row], RATE, settings=learner.phase.optimizer, pack_tokens=100)

    with pytest.raises(ConfigError, match=f"some have none.*{message}"):
        run_crew(2, work)


def test_learning_lowers_the_loss() -> None:
    learner, rows = make_learner(["optimizer.lr=0.01"]), make_rows()
    settings, own = learner.phase.optimizer, (learner.policy, learner.optimizer, World())
    losses = [learn_demonstrations(*own, rows, 0.01, settings=settings, pack_tokens=100).loss for _ in range(8)]
    assert losses[-1] < losses[0] / 2


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    learner = make_learner()
    with torch.no_grad():
        learner.policy.model.lm_head.weight[7] = float("nan")
    before = {name: weight.detach().clone() for name, weight in learner.policy.trainable.items()}
    settings, own = learner.phase.optimizer, (learner.policy, learner.optimizer, World())
    with pytest.raises(TrainingError, match="the loss is nan"):
        learn_demonstrations(*own, make_rows(), RATE, settings=settings, pack_tokens=100)
    for name, weight in learner.policy.trainable.items():
        torch.testing.assert_close(weight.detach(), before[name], rtol=0, atol=0, equal_nan=True)
