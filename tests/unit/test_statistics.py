import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.evaluation.statistics import wilson


# Values of R's prop.test(..., correct = FALSE), and the interval of the paper's V* result (178 of 191).
@pytest.mark.parametrize(
    ("num_correct", "num_trials", "low", "high"),
    [
        (178, 191, 0.8870, 0.9598),
        (5, 10, 0.2366, 0.7634),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 2, 0.0945, 0.9055),
        (15, 148, 0.0624, 0.1605),  # Newcombe 1998, table I
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (1, 29, 0.0061, 0.1718),  # Newcombe 1998, table I
    ],
)
def test_wilson_agrees_with_published_intervals(num_correct: int, num_trials: int, low: float, high: float) -> None:
    interval = wilson(num_correct, num_trials)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_nothing_is_known_without_a_trial() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


def test_a_higher_confidence_widens_the_interval() -> None:
    assert (
        wilson(7, 20, confidence=0.99).low
        < wilson(7, 20).low
        < wilson(7, 20).high
        < wilson(7, 20, confidence=0.99).high
    )


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    num_correct, num_trials = counts
    interval, mirrored = wilson(num_correct, num_trials), wilson(num_trials - num_correct, num_trials)
    assert 0 <= interval.low <= num_correct / num_trials <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)


@pytest.mark.parametrize(("num_correct", "num_trials"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_refused(num_correct: int, num_trials: int) -> None:
    with pytest.raises(ValueError, match="not possible"):
        wilson(num_correct, num_trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_impossible_confidences_are_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson(1, 3, confidence=confidence)
