"""Quantiles, and the root of a falling function."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

MOST_FREEDOM = 1e6
"""Beyond so many degrees of freedom, Student's distribution is the normal one."""
MOST_T = 1e4


def find_z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def find_student(confidence: float, freedom: float) -> float:
    """Student's two-sided quantile: the |t| that is exceeded with the probability 1 - confidence.

    With t = sqrt(freedom) * tan(angle), the density is a power of a cosine, which a Gauss rule integrates to 1e-9.
    """
    if freedom > MOST_FREEDOM:
        return find_z(confidence)
    half = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)) * math.sqrt(math.pi) / 2
    nodes, weights = np.polynomial.legendre.leggauss(64)

    def outside(t: float) -> float:
        angle = math.atan(t / math.sqrt(freedom))
        inside = float(weights @ np.cos(angle * (nodes + 1) / 2) ** (freedom - 1)) * angle / 2
        return 1 - inside / half

    return find_root(outside, 0.0, MOST_T, 1 - confidence)


def find_root(
    function: Callable[[float], float], low: float, high: float, target: float, *, tolerance: float = 1e-9
) -> float:
    """Find where a falling function meets the target; the nearer end where it does not."""
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > target else (low, middle)
    return (low + high) / 2
