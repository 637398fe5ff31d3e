"""Updates on parts of a batch, beside a plain loop over the stock model: its loss, AdamW, one part after the other."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from p2r.config import AdvantageSettings, parse_recipe  # noqa: E402
from p2r.errors import ConfigError  # noqa: E402
from p2r.training.advantages import compare_groups  # noqa: E402
from p2r.training.engines.local.distributed import World, share_out  # noqa: E402
from p2r.training.groups import Group  # noqa: E402
from p2r.training.mini_batches import make_mini_batches, split_groups  # noqa: E402
from p2r.training.update import UpdateReport, learn_step  # noqa: E402
from p2r.training.watch.stopwatch import Stopwatch  # noqa: E402
from tests.fakes.crew import run_crew  # noqa: E402
from tests.fakes.tiny_policy import Recorder, make_groups, make_learner, make_model, repeated_logprobs  # noqa: E402

RATE = 1e-2
REWARDS = ((1.0, 0.0, 0.5), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 1.0), (0.5, 0.0, 1.0), (1.0, 0.0, 0.0))
LOCK = threading.Lock()
LEAST = {"out": "x", "data": {"num_rows": 9}}


def plain_weights(groups: Sequence[Group], size: int, num_passes: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights after the updates, and losses: the token mean of each part, clip 0.2, dual clip 3, k3 times 0.01."""
    model, reference = make_model(), make_learner().snapshot.engine.model
    adam = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.999), weight_decay=0.01)

    def logprobs(of: torch.nn.Module, part: Sequence[Group]) -> torch.Tensor:
        rows = [(group.prompt, [one.token_ids for one in group.rollouts]) for group in part]
        return torch.cat(repeated_logprobs(of, rows))  # type: ignore[arg-type]

    parts = [groups[first : first + size] for first in range(0, len(groups), size)]
    with torch.no_grad():
        olds, refs = ([logprobs(of, part) for part in parts] for of in (model, reference))
    losses: list[float] = []
    for _ in range(num_passes):
        for part, old, ref in zip(parts, olds, refs, strict=True):
            advantages: list[float] = []
            for group in part:
                rewards = [one.reward or 0.0 for one in group.rollouts]
                mean = sum(rewards) / 3
                std = math.sqrt(sum((each - mean) ** 2 for each in rewards) / 2)
                for one, reward in zip(group.rollouts, rewards, strict=True):
                    advantages += [(reward - mean) / (std + 1e-6)] * len(one.token_ids)
            new, adv = logprobs(model, part), torch.tensor(advantages)
            ratio = (new - old).exp()
            gain = torch.minimum(ratio * adv, ratio.clamp(0.8, 1.2) * adv)
            gain = torch.where(adv < 0, torch.maximum(gain, 3 * adv), gain)
            loss = (-gain + 0.01 * ((ref - new).exp() - (ref - new) - 1).clamp(max=10)).mean()
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            losses.append(loss.item())
    return {name: weight.detach() for name, weight in model.named_parameters()}, losses


@pytest.mark.parametrize(("size", "num_passes"), [(2, 1), (3, 1), (2, 2), (6, 2)])
def test_weights_move_as_in_a_plain_loop_over_the_parts(size: int, num_passes: int) -> None:
    groups = make_groups(*REWARDS)
    expected, losses = plain_weights(groups, size, num_passes)
    changes = ["rollout.prompts_per_step=6", f"optimizer.mini_batch_prompts={size}"]
    learner = make_learner([*changes, f"optimizer.updates_per_batch={num_passes}"])
    report = learn_step(learner, groups, RATE).report
    assert report is not None
    assert report.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    before = make_learner().policy.trainable
    for name, weight in learner.policy.trainable.items():
        moved, wanted = weight.detach() - before[name].detach(), expected[name] - before[name].detach()
        # A weight without a gradient moves by the sign of rounding, in AdamW; few do.
        assert float((moved - wanted).abs().mean()) < 2e-3 * max(float(wanted.abs().mean()), RATE), name


def test_old_log_probs_are_measured_once_and_only_where_a_first_pass_will_not_do() -> None:
    watch, silent, changes = Stopwatch(), Stopwatch(), ["rollout.prompts_per_step=6", "optimizer.updates_per_batch=2"]
    learn_step(make_learner([*changes, "optimizer.mini_batch_prompts=3"]), make_groups(*REWARDS), RATE, watch)
    learn_step(make_learner([*changes, "optimizer.mini_batch_prompts=6"]), make_groups(*REWARDS), RATE, silent)
    assert "old" in watch.seconds and "old" not in silent.seconds


def test_mini_batches_of_the_whole_batch_change_no_bit() -> None:
    reports = [
        learn_step(make_learner(["rollout.prompts_per_step=6", *changes]), make_groups(*REWARDS), RATE).report
        for changes in ((), ("optimizer.mini_batch_prompts=6",))
    ]
    assert reports[0] == reports[1]


def test_an_answer_goes_where_the_box_set_goes_that_it_was_given_on() -> None:
    *boxes, first, second = make_groups((1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0,), (0.0,))
    groups = [*boxes, replace(first, parent=(2, 0)), replace(second, parent=(0, 1))]
    compared = compare_groups(groups, AdvantageSettings())
    parts = split_groups(compared, 2, World())
    assert [[compared.index(each) for each in part] for part in parts] == [[0, 1, 4], [2, 3]]
    assert split_groups([], 2, World()) == []


def test_a_part_that_teaches_nothing_is_passed_over() -> None:
    changes = ["rollout.prompts_per_step=4", "optimizer.mini_batch_prompts=2", "loss.kl_coef=0"]
    alive = make_groups((1.0, 0.0), (0.0, 1.0))
    dead = [replace(group, rollouts=tuple(replace(one, reward=1.0) for one in group.rollouts)) for group in alive]
    alone, beside = (make_learner(changes) for _ in range(2))
    one, other = learn_step(alone, alive, RATE).report, learn_step(beside, [*dead, *alive], RATE).report
    assert one is not None and one == other
    same = zip(alone.policy.trainable.values(), beside.policy.trainable.values(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in same)


def learn_in(
    groups: Sequence[Group], changes: Sequence[str], world: World, places: Mapping[str, int] | None = None
) -> tuple[UpdateReport, list[torch.Tensor]]:
    with LOCK:  # weights are drawn from the one state of all threads
        learner = make_learner(["rollout.prompts_per_step=6", *changes], world=world)
    recorder = Recorder(learner)
    learner = replace(learner, optimizer=recorder)  # type: ignore[arg-type]
    report = learn_step(learner, groups, RATE, places=places).report
    assert report is not None
    return report, recorder.gradients


@pytest.mark.parametrize(
    "changes",
    [(), ("optimizer.mini_batch_prompts=2", "loss.kl_coef=0"), ("optimizer.micro_batch_groups=2", "loss.kl_coef=0")],
)
@pytest.mark.parametrize(
    "shares",
    [
        [[0, 2, 4], [1, 3, 5]],
        [[0, 1, 2, 3, 4, 5], []],
        [[3, 5], [0, 1, 2, 4]],
        [[2], [], [0, 1, 3, 4, 5]],
        [[2, 4], [0], [1], [3, 5]],
    ],
)
def test_wherever_groups_fell_the_processes_make_the_updates_of_one(
    shares: Sequence[Sequence[int]], changes: Sequence[str]
) -> None:
    groups = make_groups(*REWARDS)
    places = {group.sample.id: place for place, group in enumerate(groups)}
    alone, gradients = learn_in(groups, changes, World())

    def work(world: World) -> tuple[UpdateReport, list[torch.Tensor]]:
        return learn_in([groups[place] for place in shares[world.rank]], changes, world, places)

    found = run_crew(len(shares), work)
    assert len(gradients) == (3 if "optimizer.mini_batch_prompts=2" in changes else 1)
    for report, own in found:
        for name in ("loss", "policy", "kl", "entropy", "clip_share", "ratio"):
            assert getattr(report, name) == pytest.approx(getattr(alone, name), rel=1e-6, abs=1e-12), name
        assert report.num_tokens == alone.num_tokens and len(own) == len(gradients)
    assert len({report.num_micro_batches for report, _ in found}) == 1
    for number, expected in enumerate(gradients):
        # FSDP takes the mean over the processes.
        mean = sum(own[number] for _, own in found) / len(shares)
        assert torch.allclose(mean, expected, rtol=1e-4, atol=1e-7)


def test_without_places_rows_are_in_the_order_in_which_they_were_shared() -> None:
    groups, changes = make_groups(*REWARDS), ["optimizer.mini_batch_prompts=2"]
    _, gradients = learn_in(groups, changes, World())
    found = run_crew(2, lambda world: learn_in(world.share(groups), changes, world))
    for number, expected in enumerate(gradients):
        assert torch.allclose(sum(own[number] for _, own in found) / 2, expected, rtol=1e-4, atol=1e-7)


def test_an_answer_goes_where_its_box_set_goes_over_several_processes() -> None:
    *boxes, first, second = make_groups((1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0,), (0.0,))
    own = [[boxes[0], replace(first, parent=(0, 1))], [boxes[2], boxes[1], replace(second, parent=(0, 0))]]
    places = {"s0": 0, "s1": 1, "s2": 2}

    def work(world: World) -> list[list[int]]:
        compared = compare_groups(own[world.rank], AdvantageSettings())
        return [[compared.index(each) for each in part] for part in split_groups(compared, 2, world, places)]

    assert run_crew(2, work) == [[[0, 1], []], [[1], [0, 2]]]


def loads_of(lengths: Sequence[int], num_processes: int) -> tuple[list[int], list[int]]:
    """Groups and tokens of each process, from a start at which the first has all groups."""
    targets = share_out([(length, 0) for length in lengths], num_processes)
    tokens = [0] * num_processes
    for length, target in zip(lengths, targets, strict=True):
        tokens[target] += length
    return [targets.count(process) for process in range(num_processes)], tokens


@pytest.mark.parametrize(
    ("lengths", "counts", "tokens"),
    [
        ([9, 1, 8, 2], [2, 2], [10, 10]),
        ([5, 5, 5], [2, 1], [10, 5]),
        ([100, 1, 1, 1], [2, 2], [101, 2]),  # not 1 and 3: the second would need a pass that the first does not
        ([7], [1, 0, 0], [7, 0, 0]),
        ([], [0, 0], [0, 0]),
        ([4, 3, 3, 2, 2, 1], [2, 2, 2], [5, 5, 5]),
    ],
)
def test_groups_are_shared_out_by_number_and_then_by_tokens(
    lengths: Sequence[int], counts: Sequence[int], tokens: Sequence[int]
) -> None:
    assert loads_of(lengths, len(counts)) == (counts, tokens)


def test_many_groups_come_out_almost_even() -> None:
    random = np.random.default_rng(5)
    lengths = random.integers(300, 5000, 62).tolist()
    counts, tokens = loads_of(lengths, 8)
    assert {*counts} <= {7, 8} and max(tokens) < 1.05 * sum(tokens) / 8


def test_groups_stay_where_they_are_when_that_is_as_even() -> None:
    assert share_out([(5, home) for home in (2, 0, 1)], 3) == [2, 0, 1]


def test_items_travel_to_the_process_that_they_are_dealt_to() -> None:
    own = [["a", "b", "c"], [], ["d"]]
    balanced = run_crew(3, lambda world: world.balance(own[world.rank], [len(own[world.rank])] * len(own[world.rank])))
    assert sorted(map(len, balanced)) == [1, 1, 2] and sorted(itertools.chain(*balanced)) == ["a", "b", "c", "d"]
    assert run_crew(3, lambda world: world.borrow(own[world.rank])) == [["a"], ["a"], ["d"]]
    assert run_crew(2, lambda world: world.borrow([])) == [[], []]


def test_one_process_keeps_its_groups_in_their_order() -> None:
    """With more than one micro-batch the order decides how sums are rounded."""
    groups = make_groups(*REWARDS)
    [batch] = make_mini_batches(
        (learner := make_learner()).policy, learner.phase, World(), compare_groups(groups, AdvantageSettings())
    )
    lengths = [sum(len(one.token_ids) for one in group.rollouts) for group in groups]
    assert [int(micro.packed.mask_BT.sum()) for micro in batch.micros] == lengths


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["optimizer.mini_batch_prompts=24"], "rollout.prompts_per_step is 64: it must be a multiple of"),
        (["control=joint", "optimizer.mini_batch_prompts=1"], "the control joint halves optimizer.mini_batch_prompts"),
        (
            ["schedule=[{role='reasoner', rollout={prompts_per_step=6}}]", "optimizer.mini_batch_prompts=4"],
            "prompts_per_step is 6",
        ),
    ],
)
def test_parts_that_do_not_fit_the_step_are_refused(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe(LEAST, changes)


def test_joint_halves_the_prompts_of_an_update_as_it_halves_those_of_a_step() -> None:
    [phase] = parse_recipe(LEAST, ["control=joint", "optimizer.mini_batch_prompts=16"]).phases()
    assert (phase.prompts_per_step, phase.prompts_per_update) == (32, 8)
