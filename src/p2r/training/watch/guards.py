"""Has the run collapsed? Looked at after every step, over the last `patience` steps of the phase.

Paper: appendix E.4 saw the box count fall to one when the KL term was left out. The others are what reinforcement
learning of language models usually dies of: no entropy left, too far from where it began, or a reward that grows while
the boxes hit less, so that it is earned in another way than meant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from p2r.config import GuardSettings
from p2r.statistics import mean_of

Row = Mapping[str, JsonValue]

NEARLY_ALL = 0.98
"""Share of replies with one box that counts as collapsed, when it began below MOST."""
MOST = 0.9
REWARD_RISE = 0.02
STANDARD_ERRORS = 2.0


def find_collapse(steps: Sequence[Row], probes: Sequence[Row], settings: GuardSettings) -> dict[str, str]:
    """What looks like a collapse, by the guard's name; {} when nothing does.

    Args:
        steps: rows of the phase so far, as `dynamics.measure_step` makes them.
        probes: of the phase so far, as `probe.measure_probe` makes them.
    """
    found: dict[str, str] = {}
    first, last = steps[: settings.patience], steps[-settings.patience :]
    if len(last) == settings.patience:
        entropy, divergence = _mean(last, "entropy"), _mean(last, "kl")
        if entropy is not None and entropy < settings.entropy_floor:
            found["entropy_floor"] = f"entropy is {entropy:.4f} nats a token, below {settings.entropy_floor:g}"
        if divergence is not None and divergence > settings.kl_ceiling:
            found["kl_ceiling"] = f"the KL divergence is {divergence:.3f} nats a token, above {settings.kl_ceiling:g}"
        before, now = _mean(first, "one_box"), _mean(last, "one_box")
        if settings.box_count and before is not None and now is not None and before < MOST and now >= NEARLY_ALL:
            found["box_count"] = f"{now:.0%} of the replies have one box; it began with {before:.0%}"
    if settings.reward_without_hit and len(probes) > 1 and len(steps) >= 2 * settings.patience:
        rise = (_mean(last, "reward") or 0.0) - (_mean(first, "reward") or 0.0)
        drop = _measure_drop(probes[0], probes[-1])
        if rise > REWARD_RISE and drop is not None:
            found["reward_without_hit"] = f"the reward rose by {rise:.3f} while the probe's hit rate fell by {drop:.3f}"
    return found


def _measure_drop(before: Row, after: Row) -> float | None:
    """By how much the hit rate fell, None when that is within what so few samples scatter by."""
    old, new, count = before.get("hit_rate"), after.get("hit_rate"), before.get("num_findable")
    if not (isinstance(old, (int, float)) and isinstance(new, (int, float)) and isinstance(count, int) and count):
        return None
    scatter = math.sqrt((old * (1 - old) + new * (1 - new)) / count)
    return old - new if old - new > STANDARD_ERRORS * scatter else None


def _mean(rows: Sequence[Row], name: str) -> float | None:
    return mean_of([value for row in rows if isinstance(value := row.get(name), (int, float))])
