"""Do two runs differ? Exact tests on paired samples, and a correction for several of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

MOST_STEPS = 2_000_000
"""Steps of a sum of whole numbers; above, the sum is one of decimal numbers."""


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
    reach, observed = sum(sizes), abs(sum(differences))
    if reach * len(sizes) > MOST_STEPS:
        counts = Counter(sizes)
        (probs,) = spread_of_sums(list(counts), np.array([list(counts.values())]), 0.5)
        return min(1.0, max(0.0, float(probs[abs(np.arange(-reach, reach + 1)) >= observed].sum())))
    ways = [0] * (2 * reach + 1)  # ways[reach + s]: sign patterns whose differences sum to s
    ways[reach] = 1
    for size in sizes:
        ways = [
            (ways[k - size] if k >= size else 0) + (ways[k + size] if k + size <= 2 * reach else 0)
            for k in range(2 * reach + 1)
        ]
    extreme = sum(count for k, count in enumerate(ways) if abs(k - reach) >= observed)
    return float(extreme / 2 ** len(sizes))


def spread_of_sums(sizes: Sequence[int], counts: np.ndarray, positive: float) -> np.ndarray:
    """Probabilities of the sums of signed sizes, from -reach to reach, where each sign is positive that often.

    They are the inverse Fourier transform of a product over the sizes, exact to about 1e-12.

    Args:
        counts: a row for each sum, with the number of each size.

    Returns:
        A row for each sum; `reach` is the largest sum of all of them.
    """
    reach = int((counts @ np.array(sizes)).max())
    length = _find_length(2 * reach + 1)
    turns = 2j * np.pi * np.arange(length // 2 + 1) / length
    logs = np.zeros((len(counts), len(turns)), complex)
    for k, size in enumerate(sizes):  # one after the other: all at once may not fit into memory
        wave = positive * np.exp(-size * turns) + (1 - positive) * np.exp(size * turns)  # never 0: the length is odd
        nums: np.ndarray = counts[:, k]
        logs += np.outer(nums, np.log(wave))
    terms, matters = np.zeros_like(logs), np.real(logs) > -50
    terms[matters] = np.exp(logs[matters])
    probs = np.fft.irfft(terms, length)
    return np.hstack([probs[:, length - reach :], probs[:, : reach + 1]])


def _find_length(least: int) -> int:
    """Return the least odd number from `least` on with small factors, of which a Fourier transform is fast."""
    powers = itertools.product(range(15), range(11), range(9))
    return min(number for a, b, c in powers if (number := 3**a * 5**b * 7**c) >= least)


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
