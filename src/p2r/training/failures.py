"""Failed is not wrong, but too much of it means that something is broken."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from p2r.errors import TooManyErrors
from p2r.evaluation.asking import MIN_TRIED, explain_causes

WINDOW = 200
"""Latest outcomes that are looked at, so that what breaks late is noticed as soon as what breaks at once."""


class FailureGauge:
    """The share of the latest outcomes that failed.

    max_error_rate: 0 to 1; judged once MIN_TRIED outcomes are there.
    """

    def __init__(self, max_error_rate: float) -> None:
        self._max_error_rate = max_error_rate
        self._latest: deque[str] = deque(maxlen=WINDOW)

    def count(self, outcomes: Iterable[str]) -> None:
        """Note outcomes: "" for one that went well, else why it failed."""
        self._latest.extend(outcomes)

    def check(self) -> None:
        """Raises TooManyErrors, with the most frequent cause."""
        causes = Counter(cause for cause in self._latest if cause)
        num_tried, num_failed = len(self._latest), causes.total()
        if num_tried < MIN_TRIED or num_failed <= self._max_error_rate * num_tried:
            return
        raise TooManyErrors(
            f"stopped: {num_failed} of the latest {num_tried} answers could not be judged, {explain_causes(causes)}",
            hint="remove the cause and run the same command with --resume; or raise partner.max_error_rate",
        )
