"""What fails in training: tried twice, then counted, and a stop when it is too much.

Failed is not wrong: what fails is masked or left out, and never a zero.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from p2r.errors import P2RError, TooManyErrors
from p2r.evaluation.asking import MIN_TRIED, explain_causes
from p2r.loop import run_short
from p2r.training.engines.local.distributed import World
from p2r.training.groups import Rollout

Given = TypeVar("Given")
Made = TypeVar("Made")

WINDOW = 200
"""Outcomes of earlier steps that still count, so that a late fault is noticed as soon as an early one."""


class FailureGauge:
    """The share of rollouts that failed: of those since the last check, and of the WINDOW latest ones before it.

    max_error_rate: 0 to 1.
    then: what to do once the cause is removed, for the hint.
    """

    def __init__(self, max_error_rate: float, *, then: str = "resume with `resume=True`") -> None:
        self._max_error_rate, self._then = max_error_rate, then
        self._latest: list[str] = []

    def count(self, outcomes: Iterable[str]) -> None:
        """Note the outcome of each rollout: "" for a success, else why it failed."""
        self._latest.extend(outcomes)

    async def try_each(
        self, items: Sequence[Given], make: Callable[[Given], Made], num_replies: int
    ) -> list[Made | None]:
        """Make something of each item, in threads; None for what failed twice, with so many rollouts."""

        def make_twice(item: Given) -> tuple[Made | None, str]:
            try:
                return make(item), ""
            except P2RError:
                pass
            try:
                return make(item), ""
            except P2RError as error:
                return None, error.message

        made = await asyncio.gather(*(run_short(partial(make_twice, item)) for item in items))
        self.count([cause for _, cause in made if cause] * num_replies)
        return [result for result, _ in made]

    def check(self, world: World | None = None, *, at_least: int = MIN_TRIED) -> None:
        """Stop when too much failed.

        Args:
            world: the processes that count together and stop together. All must call. This one alone when None.
            at_least: so many rollouts are known before their share means anything.

        Raises:
            TooManyErrors: with the most frequent cause.
        """
        outcomes = (world or World()).gather(self._latest)
        causes = Counter(cause for cause in outcomes if cause)
        num_tried, num_failed = len(outcomes), causes.total()
        self._latest = self._latest[-WINDOW:]
        if num_tried < at_least or num_failed <= self._max_error_rate * num_tried:
            return
        raise TooManyErrors(
            f"stopped: {num_failed} of the latest {num_tried} rollouts could not be judged, {explain_causes(causes)}",
            hint=f"remove the cause and {self._then}; or raise partner.max_error_rate",
        )

    def dump(self) -> list[str]:
        """The latest outcomes, for a checkpoint."""
        return [*self._latest]

    def load(self, dumped: Sequence[str]) -> None:
        """Restore what `dump` returned."""
        self._latest = [*dumped]


def mask_unjudged(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Mask a whole group in which a judge failed.

    A model is asked only about answers whose words differ from the target's. If its failures masked those alone, too
    many of the answers that are left would be right. Other failures do not depend on what is right.
    """
    if not any(_lacks_verdict(rollout) for rollout in rollouts):
        return [*rollouts]
    why = "the judge failed in its group"
    return [replace(rollout, reward=None, failure=rollout.failure or why) for rollout in rollouts]


def _lacks_verdict(rollout: Rollout) -> bool:
    failure = rollout.trace.failure if rollout.trace is not None else None
    return rollout.reward is None and failure is not None and failure.stage == "judge"
