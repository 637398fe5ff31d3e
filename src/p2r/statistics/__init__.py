"""Means, and how sure they are: intervals for shares of right answers, and tests of whether two runs differ.

Samples that ask the same thing (the rotations of one HR-Bench question) form a cluster and are never counted as
independent: intervals count the effective number of samples, and the test swaps whole clusters.
"""

from p2r.statistics.intervals import (
    Difference,
    Interval,
    bootstrap_mean,
    bound_mean,
    compare_pairs,
    effective_size,
    mean_of,
    tango,
    wilson,
)
from p2r.statistics.paired_tests import correct_holm, mcnemar, permute_clusters
from p2r.statistics.power import find_detectable_difference, find_power
from p2r.statistics.two_levels import Estimate, Part, estimate

__all__ = [
    "Difference",
    "Estimate",
    "Interval",
    "Part",
    "bootstrap_mean",
    "bound_mean",
    "compare_pairs",
    "correct_holm",
    "effective_size",
    "estimate",
    "find_detectable_difference",
    "find_power",
    "mcnemar",
    "mean_of",
    "permute_clusters",
    "tango",
    "wilson",
]
