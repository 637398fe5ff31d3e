"""One step of a supervised phase: rows are encoded, learned, and described as `metrics.jsonl` holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2r.runs.training_log import Step
from p2r.training.engines.local.optimizer import rate_at
from p2r.training.phases import PhaseState
from p2r.training.sft.demonstrations import Demonstration
from p2r.training.sft.encode import EncodedDemonstration, encode_demonstration
from p2r.training.sft.update import learn_demonstrations
from p2r.training.watch.stopwatch import Stopwatch


async def take_sft_step(
    state: PhaseState,
    rows: Sequence[Demonstration],
    step: int,
    num_steps: int,
    before_pass: Callable[[], object] = lambda: None,
) -> Step:
    """Learn the replies of one step's rows. All processes must call.

    A row whose image fails twice is left out and counted. Each process reads its share of the rows; those that could be
    read are then shared out again, so that none has much more to learn than another.

    Args:
        rows: those of all processes.
        step: counted from 0.
        before_pass: is called before each forward pass; what it raises leaves the step.

    Raises:
        TooManyErrors: more of the latest rows failed than the recipe allows.
        TrainingError: the loss or the gradient is not finite; the weights are as before.
    """
    world, watch, policy, phase = state.world, Stopwatch(), state.policy, state.phase

    def encode(row: Demonstration) -> EncodedDemonstration:
        return encode_demonstration(row, policy.encoder, policy.profile.budget)

    own = world.share(rows)
    with watch.part("prepare"):
        made = await state.failures.try_each(own, encode, num_replies=1)
    encoded = [each for each in made if each is not None]
    state.failures.count("" for _ in encoded)
    state.failures.check(world)
    encoded = world.balance(encoded, [row.num_tokens for row in encoded])
    [num_learned_from] = world.add_up([len(encoded)])
    rate, report = rate_at(phase.optimizer, phase.lr, step, num_steps), None
    if num_learned_from:
        with watch.part("update"):
            report = learn_demonstrations(
                policy,
                state.optimizer,
                world,
                encoded,
                rate,
                settings=phase.optimizer,
                pack_tokens=phase.sft.pack_tokens,
                before_pass=before_pass,
            )
    timing = {name: round(seconds, 4) for name, seconds in watch.seconds.items()} | {"seconds": round(watch.total, 4)}
    if report is not None:
        timing["trained_tokens_per_second"] = round(report.num_tokens / max(watch.seconds["update"], 1e-9), 1)
    return Step(
        phase=phase.name,
        step=step + 1,
        num_rows=len(rows),
        num_failed_rows=len(rows) - int(num_learned_from),
        num_learned_tokens=0 if report is None else report.num_learned,
        num_trained_tokens=0 if report is None else report.num_tokens,
        lr=rate,
        loss=None if report is None else report.loss,
        grad_norm=None if report is None else report.grad_norm,
        timing=timing,
    )
