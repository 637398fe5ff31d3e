"""The update: which advantage each rollout takes, what the loss is computed from, and what reaches the optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from p2r.config import AdvantageSettings  # noqa: E402
from p2r.errors import TrainingError  # noqa: E402
from p2r.training import micro_batch  # noqa: E402
from p2r.training.advantages import compare_groups  # noqa: E402
from p2r.training.engines.local.logprobs import Logprobs, compute_logprobs  # noqa: E402
from p2r.training.groups import Group  # noqa: E402
from p2r.training.update import Learner, UpdateReport, learn_step, update_policy  # noqa: E402
from p2r.training.watch.stopwatch import Stopwatch  # noqa: E402
from tests.fakes.tiny_policy import make_groups, make_learner, repeated_logits  # noqa: E402

REWARDS = ((1.0, 0.0, 0.0), (0.0, 1.0, None), (1.0, 1.0, 1.0), (0.5, 0.0, 1.0))
"""One rollout could not be judged, one group is dead."""


class Recorder:
    """In place of an optimizer: keeps the gradient of each step, as it is before it is clipped, and changes nothing."""

    def __init__(self, learner: Learner) -> None:
        self.masters, self.gradients = learner.optimizer._masters, list[torch.Tensor]()

    def step(self, rate: float) -> float:
        own = [master.grad.flatten() for master in self.masters.values() if master.grad is not None]
        self.gradients.append(torch.cat(own))
        return 0.0


def learn(groups: Sequence[Group], *changes: str, watch: Stopwatch | None = None) -> UpdateReport | None:
    return learn_step(make_learner(changes), groups, 1e-3, watch).report


def find_gradient(groups: Sequence[Group], *changes: str) -> torch.Tensor:
    learner = make_learner(changes)
    recorder = Recorder(learner)
    learn_step(replace(learner, optimizer=recorder), groups, 1e-3)  # type: ignore[arg-type]
    [gradient] = recorder.gradients
    return gradient


def same(first: float, second: float) -> bool:
    return first == pytest.approx(second, rel=1e-9)


def test_an_answer_takes_the_advantage_of_the_box_set_it_was_given_on() -> None:
    first, second, answer, other = make_groups((0.0, 1.0, 0.0, 0.0), (0.25, 0.0, 1.0, 0.5), (1.0,), (0.0,))
    groups = [first, second, replace(answer, parent=(1, 2)), replace(other, parent=(0, 1))]
    compared = compare_groups(groups, AdvantageSettings())
    parents = [advantage for each in compared[:2] for advantage in each.advantages]
    assert len(set(parents)) == 6  # so that no other rollout's would do
    assert compared[2].advantages == (compared[1].advantages[2],)
    assert compared[3].advantages == (compared[0].advantages[1],)


def test_an_answer_on_a_box_set_that_could_not_be_compared_is_masked() -> None:
    lonely, dead, answer, other = make_groups((1.0, None), (1.0, 1.0), (1.0,), (1.0,))
    groups = [lonely, dead, replace(answer, parent=(0, 0)), replace(other, parent=(1, 1))]
    compared = compare_groups(groups, AdvantageSettings())
    assert [(each.is_dropped, each.is_dead) for each in compared] == [(True, False), (False, True)] * 2
    assert (compared[2].kept, compared[3].advantages) == ([], (0.0,))


def test_what_could_not_be_judged_is_left_out_of_its_group() -> None:
    compared = compare_groups(make_groups(*REWARDS), AdvantageSettings())
    assert compared[1].advantages[2] is None and len(compared[1].kept) == 2
    assert compared[1].advantages[:2] == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)], rel=1e-5)
    assert compared[2].is_dead and not compared[2].is_dropped


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropy_and_divergence_are_those_of_the_stock_model_at_the_temperature_of_sampling(temperature: float) -> None:
    groups, changes = make_groups((1.0, 0.0), (0.0, 1.0)), [f"rollout.temperature={temperature}"]
    learner = make_learner(changes)
    rows = [(group.prompt, [rollout.token_ids for rollout in group.rollouts]) for group in groups]
    with torch.no_grad():
        policy = repeated_logits(learner.policy.model, rows)
        reference = repeated_logits(learner.snapshot.engine.model, rows)
    entropies: list[float] = []
    divergences: list[float] = []
    for (own, tokens), (other, _) in zip(policy, reference, strict=True):
        own_log, other_log = ((each / temperature).log_softmax(-1) for each in (own, other))
        entropies += (-(own_log.exp() * own_log).sum(-1)).tolist()
        toward = (other_log - own_log).gather(1, tokens[:, None])[:, 0]
        divergences += (toward.exp() - toward - 1).tolist()
    report = learn_step(learner, groups, 1e-3).report
    assert report is not None and report.num_tokens == len(entropies)
    assert same(report.entropy, sum(entropies) / len(entropies))
    assert same(report.kl, sum(divergences) / len(divergences))


def test_micro_batches_add_up_to_the_batch() -> None:
    groups = make_groups(*REWARDS)
    one, four = (learn(groups, f"optimizer.micro_batch_groups={size}") for size in (1, 4))
    assert one is not None and four is not None
    assert (one.num_micro_batches, four.num_micro_batches) == (4, 1)
    assert same(one.loss, four.loss) and one.grad_norm == pytest.approx(four.grad_norm, rel=1e-6)
    counted = [(each.num_packed_tokens, each.num_predictors, each.num_patches) for each in (one, four)]
    assert counted[0] == counted[1]
    apart, together = (find_gradient(groups, f"optimizer.micro_batch_groups={size}") for size in (1, 4))
    assert torch.allclose(apart, together, rtol=1e-5, atol=1e-7)


def test_dead_groups_are_skipped_only_without_a_kl_term() -> None:
    without, with_kl = (learn(make_groups(*REWARDS), f"loss.kl_coef={coef}") for coef in (0.0, 0.01))
    assert without is not None and with_kl is not None
    assert (without.num_micro_batches, with_kl.num_micro_batches) == (3, 4)
    assert same(without.policy, with_kl.policy)  # the tokens of dead groups divide the loss, measured or not
    assert without.num_tokens < with_kl.num_tokens
    assert (without.kl, with_kl.kl > 0) == (0.0, True)


@pytest.mark.parametrize("changes", [(), ("loss.ratio=sequence", "loss.reduction=sequence-mean")])
def test_what_is_watched_is_a_mean_over_the_tokens_that_were_measured(changes: Sequence[str]) -> None:
    """Three of four groups are dead; what goes through the model is the second group alone, with or without them."""
    groups = make_groups((0.0, 0.0), (1.0, 0.0, 1.0), (1.0, 1.0), (0.0, 0.0, 0.0))
    with_dead, alone = (learn(each, "loss.kl_coef=0", *changes) for each in (groups, groups[1:2]))
    assert with_dead is not None and alone is not None
    assert with_dead.ratio == pytest.approx(1) and alone.entropy > 0
    for name in ("entropy", "ratio", "clip_share", "num_tokens"):
        assert getattr(with_dead, name) == pytest.approx(getattr(alone, name)), name


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_frozen_tower_sees_the_images_of_a_batch_once(is_frozen: bool) -> None:
    learner = make_learner(["optimizer.updates_per_batch=3"])
    runs: list[str] = []
    for name, model in (("policy", learner.policy.model), ("reference", learner.snapshot.engine.model)):
        tower = model.model.visual
        if is_frozen:
            tower.load_state_dict(learner.policy.model.model.visual.state_dict())  # as a phase's snapshot has it
        tower.requires_grad_(not is_frozen)
        tower.register_forward_pre_hook(lambda *_, name=name: runs.append(name))
    report = learn_step(learner, make_groups(*REWARDS), 1e-3).report
    assert report is not None and report.num_micro_batches == 4
    assert len(runs) == (4 if is_frozen else 4 * (3 + 1))


def test_entropy_is_measured_in_the_first_pass_over_a_batch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def compute(*given: object, with_entropy: bool, **named: object) -> Logprobs:
        asked.append(with_entropy)
        return compute_logprobs(*given, with_entropy=with_entropy, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(micro_batch, "compute_logprobs", compute)
    changes, groups = ["loss.kl_coef=0"], make_groups((1.0, 0.0), (0.0, 1.0))
    once, thrice = (learn(groups, *changes, f"optimizer.updates_per_batch={count}") for count in (1, 3))
    assert asked == [True] * 2 + [True] * 2 + [False] * 4
    assert once is not None and thrice is not None
    assert same(once.entropy, thrice.entropy) and once.entropy > 0


def test_more_micro_batches_do_not_make_the_host_wait_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    read = torch.Tensor.__float__

    def count(tensor: torch.Tensor) -> float:
        waits[-1] += 1
        return read(tensor)

    for num_groups in (2, 6):
        learner = make_learner(["optimizer.updates_per_batch=2"])
        compared = compare_groups(make_groups(*[(1.0, 0.0)] * num_groups), AdvantageSettings())
        waits.append(0)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "__float__", count)
            update_policy(learner, compared, 1e-3, Stopwatch())
    assert waits[0] == waits[1] < 10


def test_the_reference_is_asked_once_a_batch_and_only_for_a_kl_term() -> None:
    watch, silent = Stopwatch(), Stopwatch()
    report = learn(make_groups(*REWARDS), "optimizer.updates_per_batch=3", watch=watch)
    learn(make_groups(*REWARDS), "loss.kl_coef=0", watch=silent)
    assert report is not None
    assert report.ratio != 1.0  # later updates are clipped against the first log-probs
    assert "reference" in watch.seconds and "reference" not in silent.seconds


@pytest.mark.parametrize("rewards", [((None, None), (None, None)), ((1.0, None), (None, 0.0)), ()])
def test_nothing_is_learned_when_nothing_could_be_compared(rewards: Sequence[Sequence[float | None]]) -> None:
    learner = make_learner()
    before = {name: weight.detach().clone() for name, weight in learner.policy.trainable.items()}
    assert learn_step(learner, make_groups(*rewards), 1e-3).report is None
    assert all(torch.equal(weight, before[name]) for name, weight in learner.policy.trainable.items())


def test_a_reward_that_is_not_finite_stops_with_the_weights_as_they_were() -> None:
    learner = make_learner()
    before = {name: weight.detach().clone() for name, weight in learner.policy.trainable.items()}
    with pytest.raises(TrainingError, match="norm is nan"):
        learn_step(learner, make_groups((math.inf, 0.0), (1.0, 0.0)), 1e-3)
    assert all(torch.equal(weight, before[name]) for name, weight in learner.policy.trainable.items())


def cut_off(group: Group, *places: int) -> Group:
    rollouts = [replace(each, ended=place not in places) for place, each in enumerate(group.rollouts)]
    return replace(group, rollouts=tuple(rollouts))


@pytest.mark.parametrize("reduction", ["token-mean", "sequence-mean", "dr-grpo"])
def test_a_truncated_reply_is_left_out_of_the_loss_and_stays_in_its_group(reduction: str) -> None:
    """Beside the formula over the stock model's logits: what TRL does with `mask_truncated_completions`."""
    changes = ["loss.mask_truncated=true", f"loss.reduction={reduction}"]
    whole, other = make_groups((1.0, 0.0, 0.25), (0.0, 1.0, 0.0))
    groups = [cut_off(whole, 1), cut_off(other, 0, 1, 2)]
    learner = make_learner(changes)
    rows = [(group.prompt, [rollout.token_ids for rollout in group.rollouts]) for group in groups]
    with torch.no_grad():
        own, reference = (
            repeated_logits(model, rows) for model in (learner.policy.model, learner.snapshot.engine.model)
        )
    mean = 1.25 / 3  # of all three replies, the masked one as well
    std = math.sqrt(sum((reward - mean) ** 2 for reward in (1.0, 0.0, 0.25)) / 2)
    total, num_tokens = 0.0, 0
    for place in (0, 2):
        (logits, tokens), (other_logits, _) = own[place], reference[place]
        new, ref = (each.log_softmax(-1).gather(1, tokens[:, None])[:, 0] for each in (logits, other_logits))
        advantage = (whole.rollouts[place].reward - mean) / (std + 1e-6)
        losses = (-advantage + 0.01 * ((ref - new).exp() - (ref - new) - 1)).tolist()
        num_tokens += len(losses)
        total += sum(losses) / len(losses) if reduction == "sequence-mean" else sum(losses)
    longest = learner.phase.max_response_tokens
    expected = {"token-mean": total / num_tokens, "sequence-mean": total / 6, "dr-grpo": total / (6 * longest)}
    report = learn_step(learner, groups, 1e-3).report
    assert report is not None and report.num_tokens == num_tokens
    assert report.loss == pytest.approx(expected[reduction], rel=1e-6)


def test_truncated_replies_teach_like_others_unless_they_are_masked() -> None:
    [group] = make_groups((1.0, 0.0, 0.25))
    assert torch.equal(find_gradient([group]), find_gradient([cut_off(group, 0, 2)]))
    assert learn([cut_off(group, 0, 1, 2)], "loss.mask_truncated=true") is None


def test_the_longest_reply_that_is_allowed_divides_the_loss_of_dr_grpo() -> None:
    changes = ["loss.kl_coef=0", "loss.reduction=dr-grpo"]
    short, long = (
        learn(make_groups((1.0, 0.0)), *changes, f"rollout.max_new_tokens={{perceiver={limit}, reasoner=9}}")
        for limit in (10, 40)
    )
    assert short is not None and long is not None
    assert same(short.loss, 4 * long.loss) and short.loss != 0
