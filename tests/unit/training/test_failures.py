"""When too many rollouts failed, and whom a failed judge takes along."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("torch")

from p2r.errors import TooManyErrors
from p2r.training.engines.local.distributed import World
from p2r.training.failures import MIN_TRIED, WINDOW, FailureGauge


def test_the_rate_that_is_allowed_stops_nothing_and_one_failure_more_does() -> None:
    gauge = FailureGauge(max_error_rate=0.25)
    gauge.count(["the server is down"] * (MIN_TRIED // 4))
    gauge.check()  # too few to mean anything
    gauge.count([""] * (MIN_TRIED - MIN_TRIED // 4))
    gauge.check()
    gauge.count(["the server is down"])
    with pytest.raises(TooManyErrors, match="6 of the latest 21 rollouts could not be judged, all because"):
        gauge.check()


def test_failures_at_the_beginning_of_a_large_step_are_not_forgotten_before_its_end() -> None:
    gauge = FailureGauge(max_error_rate=0.1)
    gauge.count(["no image"] * 2 * WINDOW)
    gauge.count([""] * 2 * WINDOW)
    with pytest.raises(TooManyErrors, match=f"{2 * WINDOW} of the latest {4 * WINDOW} rollouts"):
        gauge.check()


def test_earlier_steps_count_by_their_latest_rollouts() -> None:
    gauge = FailureGauge(max_error_rate=0.5)
    gauge.count(["no image"] * WINDOW + [""] * WINDOW)
    gauge.check()
    gauge.count(["no image"] * WINDOW)
    gauge.check()
    assert gauge.dump() == ["no image"] * WINDOW
    gauge.count([""] * (WINDOW - 1))
    with pytest.raises(TooManyErrors, match=f"{WINDOW} of the latest {2 * WINDOW - 1} rollouts"):
        gauge.check()


def test_a_gauge_that_is_restored_counts_on() -> None:
    gauge, resumed = FailureGauge(max_error_rate=0.5), FailureGauge(max_error_rate=0.5)
    gauge.count(["no image", ""] * (MIN_TRIED // 2))
    gauge.check()
    resumed.load(gauge.dump())
    resumed.count(["no image"])
    with pytest.raises(TooManyErrors, match="11 of the latest 21 rollouts could not be judged, all because no image"):
        resumed.check()


def test_processes_count_and_stop_together() -> None:
    """This process has no failure itself; the other one has nothing else."""

    class Other(World):
        __slots__ = ()

        def gather(self, own: Sequence[object]) -> list[object]:
            return [*own, *["no image"] * 20]

    gauge = FailureGauge(max_error_rate=0.4)
    gauge.count([""] * 20)
    gauge.check()
    with pytest.raises(TooManyErrors, match="20 of the latest 40 rollouts"):
        gauge.check(Other(size=2))
    assert gauge.dump() == [""] * 20
