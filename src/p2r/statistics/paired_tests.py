"""Do two runs differ? Exact tests on paired samples, and a correction for several of them."""

from __future__ import annotations

from collections.abc import Sequence


def mcnemar(num_gained: int, num_lost: int) -> float:
    """Exact two-sided p-value that two runs are equally often right, from the samples on which they differ.

    Args:
        num_gained, num_lost: samples that only the second run, or only the first, has right.

    Raises:
        ValueError: a negative count.

    Source:
        Q. McNemar, Psychometrika 12 (1947); twice the smaller binomial tail, at most 1.
    """
    if num_gained < 0 or num_lost < 0:
        raise ValueError(f"{num_gained} gained and {num_lost} lost are not possible")
    num_trials = num_gained + num_lost
    tail = term = 1
    for k in range(min(num_gained, num_lost)):
        term = term * (num_trials - k) // (k + 1)
        tail += term
    return min(1.0, float(2 * tail / 2**num_trials))


def permute_clusters(differences: Sequence[int]) -> float:
    """Exact two-sided p-value that swapping the two runs within whole clusters makes no difference.

    McNemar's test counts the rotations of one question as independent, which they are not. Here each cluster's
    difference gets one random sign. With one sample per cluster, this is McNemar's test.

    Args:
        differences: for each cluster, the number of samples that only the second run has right minus the number that
            only the first has right.
    """
    sizes = [abs(difference) for difference in differences if difference]
    if set(sizes) <= {1}:
        return mcnemar(
            sum(difference > 0 for difference in differences), sum(difference < 0 for difference in differences)
        )
    reach = sum(sizes)
    ways = [0] * (2 * reach + 1)  # ways[reach + s]: sign patterns whose differences sum to s
    ways[reach] = 1
    for size in sizes:
        ways = [
            (ways[k - size] if k >= size else 0) + (ways[k + size] if k + size <= 2 * reach else 0)
            for k in range(2 * reach + 1)
        ]
    observed = abs(sum(differences))
    extreme = sum(count for k, count in enumerate(ways) if abs(k - reach) >= observed)
    return float(extreme / 2 ** len(sizes))


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """p-values after Holm's correction for multiple tests, in the given order.

    Source:
        S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scand. J. Statist. 6 (1979).
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
