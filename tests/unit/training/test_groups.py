"""When too many outcomes failed."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from p2r.errors import TooManyErrors
from p2r.training.groups import MIN_TRIED, FailureGauge


def test_the_rate_that_is_allowed_stops_nothing_and_one_failure_more_does() -> None:
    gauge = FailureGauge(max_error_rate=0.25)
    gauge.count(["the server is down"] * (MIN_TRIED // 4))
    gauge.check()  # too few to mean anything
    gauge.count([""] * (MIN_TRIED - MIN_TRIED // 4))
    gauge.check()
    gauge.count(["the server is down"])
    with pytest.raises(TooManyErrors, match="6 of the latest 21 answers could not be judged, all because"):
        gauge.check()
