"""Simulate what the intervals and tests of `p2r eval` and `p2r compare` promise: coverage, type I error and power.

    python -m benchmarks.simulate_statistics
    python -m benchmarks.simulate_statistics --num-runs 500 --case hrbench

Every simulated pair of runs goes through the product's own functions. A question has a difficulty that both runs share,
and each run its own luck with it, so that rotations of a question are right or wrong together. The table has a row for
each size of benchmark and each strength of the true difference:

    mean covers       share of one run's 95% intervals that hold its true accuracy
    pair covers       share of the 95% intervals of the difference that hold the true difference
    p < .05           share of pairs that the exact test calls different: type I error where the true difference is 0
    printed, power    the median difference that `p2r compare` prints as found at 80% power, and the share of pairs that
                      the test calls different where the true difference is that one; "-" where no run of this kind can
                      be better by so much
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from p2r.statistics import bound_mean, compare_pairs, find_detectable_difference, permute_clusters

SPREAD_OF_DIFFICULTY, SPREAD_OF_LUCK = 1.5, 1.0
MOST_SHIFT = 6.0


@dataclass(frozen=True, slots=True)
class Case:
    """A benchmark: so many questions, each asked in so many rotations, by runs of about this accuracy."""

    name: str
    num_questions: int
    num_rotations: int
    accuracy: float


CASES = (
    Case("n = 24", 24, 1, 0.8),
    Case("n = 24, easy", 24, 1, 0.95),
    Case("n = 76 (V* relations)", 76, 1, 0.85),
    Case("n = 191 (V*)", 191, 1, 0.85),
    Case("24 x 4", 24, 4, 0.8),
    Case("200 x 4 (HR-Bench)", 200, 4, 0.8),
    Case("200 x 4, easy (HR-Bench)", 200, 4, 0.95),
    Case("n = 1919 (MME-Lite)", 1919, 1, 0.55),
)


def draw_pairs(case: Case, shift: float, num_pairs: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of two runs, each (pairs, questions, rotations). The second is better by `shift` logits."""
    shape = (num_pairs, case.num_questions, 1)
    skill = np.log(case.accuracy / (1 - case.accuracy)) + SPREAD_OF_DIFFICULTY * draw.standard_normal(shape)
    runs: list[np.ndarray] = []
    for better in (0.0, shift):
        logits = skill + better + SPREAD_OF_LUCK * draw.standard_normal(shape)
        runs.append(draw.random((*shape[:2], case.num_rotations)) < 1 / (1 + np.exp(-logits)))
    return runs[0], runs[1]


def find_shift(case: Case, difference: float) -> float:
    """The shift in logits that makes the second run better by `difference`."""
    low, high = 0.0, MOST_SHIFT
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if true_difference(case, middle) < difference else (low, middle)
    return low


def true_difference(case: Case, shift: float) -> float:
    return true_accuracy(case, shift) - true_accuracy(case, 0.0)


def true_accuracy(case: Case, shift: float) -> float:
    """The mean of the logistic function over the spread of the logits, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = (SPREAD_OF_DIFFICULTY**2 + SPREAD_OF_LUCK**2) ** 0.5
    logits = np.log(case.accuracy / (1 - case.accuracy)) + shift + spread * nodes
    return float((weights / (1 + np.exp(-logits))).sum() / weights.sum())


def simulate(case: Case, shift: float, num_pairs: int, seed: int) -> dict[str, float]:
    """Shares of the pairs that do what the heading of this file lists."""
    first, second = draw_pairs(case, shift, num_pairs, np.random.default_rng(seed))
    clusters = [str(k) for k in range(case.num_questions) for _ in range(case.num_rotations)]
    accuracy, difference = true_accuracy(case, shift), true_difference(case, shift)
    found = Counter[str]()
    printed: list[float] = []
    for before, after in zip(first.astype(float), second.astype(float), strict=True):
        alone = bound_mean(after.ravel().tolist(), clusters)
        pair = compare_pairs(before.ravel().tolist(), after.ravel().tolist(), clusters)
        sums: list[int] = (after - before).sum(axis=1).astype(int).tolist()
        found["mean"] += alone.low <= accuracy <= alone.high
        found["pair"] += pair.low <= difference <= pair.high
        found["differs"] += permute_clusters(sums) < 0.05
        spread = {size: num / len(sums) for size, num in Counter(abs(value) for value in sums).items() if size}
        least = find_detectable_difference(spread, len(sums), before.size) if len(printed) < 20 else None
        if least is not None:
            printed.append(least)
    shares = {name: found[name] / num_pairs for name in ("mean", "pair", "differs")}
    return {**shares, "difference": difference, "printed": median(printed) if printed else float("nan")}


def find_power(case: Case, difference: float, num_pairs: int, seed: int) -> float | None:
    """The share of pairs that the exact test calls different where the true difference is this one; None if none is."""
    if not true_difference(case, MOST_SHIFT) >= difference:
        return None
    first, second = draw_pairs(case, find_shift(case, difference), num_pairs, np.random.default_rng(seed))
    sums: list[list[int]] = (second.astype(int) - first.astype(int)).sum(axis=2).tolist()
    return sum(permute_clusters(each) < 0.05 for each in sums) / num_pairs


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-runs", type=int, default=2000, help="pairs of runs for each row (default: 2000)")
    parser.add_argument("--case", default="", help="only cases whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    print("| benchmark | true difference | mean covers | pair covers | p < .05 | printed | power there |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for case in CASES:
        if options.case.lower() not in case.name.lower():
            continue
        for shift in (0.0, 0.4):
            got = simulate(case, shift, options.num_runs, options.seed)
            power = find_power(case, got["printed"], options.num_runs, options.seed + 1)
            cells = (100 * got["difference"], got["mean"], got["pair"], got["differs"], 100 * got["printed"])
            shown = "-" if power is None else f"{power:.2f}"
            print(
                "| {} | {:.1f} | {:.3f} | {:.3f} | {:.3f} | {:.1f} | {} |".format(case.name, *cells, shown), flush=True
            )


if __name__ == "__main__":
    main()
