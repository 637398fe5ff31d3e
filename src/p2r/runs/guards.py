"""Signs that a training run has collapsed, looked for after every step over the last `patience` steps of the phase.

Paper: in appendix E.4 the number of boxes fell to one when the KL term was left out. The other guards watch for what
usually ends reinforcement learning of language models: entropy that is gone, a policy too far from its start, or a
reward that rises while boxes hit less often, so that it is earned in an unintended way. A run in which the rewards of
every group are alike learns nothing at all; nor does one in which no rollout earns a reward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from p2r.config import GuardSettings
from p2r.errors import count_nouns
from p2r.runs.training_log import Probe, Step
from p2r.statistics import mean_of

COLLAPSED_ONE_BOX = 0.98
"""Share of replies with one box that counts as collapsed when it began below HEALTHY_ONE_BOX."""
HEALTHY_ONE_BOX = 0.9
REWARD_RISE = 0.02
STANDARD_ERRORS = 2.0
NOTHING = (
    "nothing was learned from them; are the questions always right or always wrong, and can their targets be reached? "
    'data.difficulty with rule = "drop" leaves out rows whose rewards are alike'
)

UNJUDGED = "in no step were two rollouts of a group judged, so nothing was learned; the steps say why"
UNREWARDED = (
    "can the questions be answered, and their targets reached? Is the answer read out of the replies? The rollouts in "
    "the report show it"
)


def find_collapse(steps: Sequence[Step], probes: Sequence[Probe], settings: GuardSettings) -> dict[str, str]:
    """Find what looks like a collapse, by the guard's name; {} when nothing does.

    Args:
        steps, probes: of the phase so far.
    """
    found: dict[str, str] = {}
    first, last = steps[: settings.patience], steps[-settings.patience :]
    if len(last) == settings.patience:
        entropy, divergence = mean_of(step.entropy for step in last), mean_of(step.kl for step in last)
        if entropy is not None and entropy < settings.entropy_floor:
            found["entropy_floor"] = f"entropy is {entropy:.4f} nats a token, below {settings.entropy_floor:g}"
        if divergence is not None and divergence > settings.kl_ceiling:
            found["kl_ceiling"] = f"the KL divergence is {divergence:.3f} nats a token, above {settings.kl_ceiling:g}"
        before, now = mean_of(step.one_box for step in first), mean_of(step.one_box for step in last)
        if (
            settings.box_count
            and before is not None
            and now is not None
            and before < HEALTHY_ONE_BOX
            and now >= COLLAPSED_ONE_BOX
        ):
            found["box_count"] = f"{now:.0%} of the replies have one box; it began with {before:.0%}"
        so_long = count_nouns(settings.patience, "step")
        if settings.zero_rewards and earns_nothing(last):
            found["zero_rewards"] = f"no rollout earned a reward in {so_long}: {UNREWARDED}"
        elif settings.dead_groups and learns_nothing(last):
            found["dead_groups"] = f"the rewards of every group were alike in {so_long}: {NOTHING}"
    if settings.reward_without_hit and len(probes) > 1 and len(steps) >= 2 * settings.patience:
        rise = (mean_of(step.reward for step in last) or 0.0) - (mean_of(step.reward for step in first) or 0.0)
        drop = _measure_drop(probes[0], probes[-1])
        if rise > REWARD_RISE and drop is not None:
            found["reward_without_hit"] = f"the reward rose by {rise:.3f} while the probe's hit rate fell by {drop:.3f}"
    return found


def learns_nothing(steps: Sequence[Step]) -> bool:
    """Tell whether no group of these steps had rewards that differ; False without steps."""
    return bool(steps) and all(step.dead_groups == 1 or step.drawn_dead_groups == 1 for step in steps)


def judges_nothing(steps: Sequence[Step]) -> bool:
    """Tell whether too little was judged in every group of these steps to compare rollouts; False without steps."""
    return bool(steps) and all(step.dropped_groups == 1 for step in steps)


def earns_nothing(steps: Sequence[Step]) -> bool:
    """Tell whether no rollout of these steps was rewarded, or right; False without steps, or where nothing is known.

    A punishment, such as that of length, makes a reward less than zero.
    """
    rewards = [step.reward if step.drawn_reward is None else step.drawn_reward for step in steps]
    accuracies = [step.accuracy if step.drawn_accuracy is None else step.drawn_accuracy for step in steps]
    return bool(steps) and all(reward is not None and reward <= 0 for reward in rewards) and not any(accuracies)


def _measure_drop(before: Probe, after: Probe) -> float | None:
    """Measure by how much the hit rate fell; None when that is within the scatter of so few samples."""
    old, new, count = before.hit_rate, after.hit_rate, before.num_findable
    if old is None or new is None or not count:
        return None
    scatter = math.sqrt((old * (1 - old) + new * (1 - new)) / count)
    return old - new if old - new > STANDARD_ERRORS * scatter else None
