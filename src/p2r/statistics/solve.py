"""Quantiles, and the root of a falling function."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist


def find_z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def find_t(z: float, freedom: int) -> float:
    """Student's quantile from the normal one, by its expansion in 1 / freedom: within 1% from 5 degrees on."""
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def find_root(
    function: Callable[[float], float], low: float, high: float, target: float, *, tolerance: float = 1e-9
) -> float:
    """Find where a falling function meets the target; the nearer end where it does not."""
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > target else (low, middle)
    return (low + high) / 2
