"""Simulate what the intervals and tests of `p2r study` promise: coverage and type I error with few seeds.

    python -m benchmarks.simulate_studies [--num-runs 500]

Two arms of the same quality are trained with some seeds each and asked the same questions. Questions differ in
difficulty, seeds in skill (by "seeds differ" logits), and each seed has luck of its own with each question. The true
difference is 0. In the last cases seeds agree, but one training in ten breaks down and loses 3 logits; the first arm is
not trained, and the true difference is what that costs on average.

    covers     share of the 95% intervals that hold the true difference
    p < .05    share of studies that call the arms different
    one seed   the same, by McNemar's exact test on the first seed of each alone: what a study of one run would say
    width      the median width of the interval, in points
"""

from __future__ import annotations

import argparse
from statistics import median

import numpy as np
from numpy.typing import NDArray

from p2r.statistics import Part, estimate, mcnemar

SPREAD_OF_DIFFICULTY, SKILL = 1.2, 1.0
RARELY = -1.0
"""In place of how much seeds differ: some break down."""
SHARE_BROKEN, LOSS = 0.1, 3.0
CASES = [(seeds, seeds, questions, apart) for questions in (300, 600) for seeds in (2, 3, 5) for apart in (0.0, 0.2)]
CASES += [(1, 3, 600, 0.2), (1, 3, 600, 0.4), (1, 5, 600, 0.2), (1, 5, 600, 0.4), (3, 5, 600, 0.2)]
CASES += [(1, 3, 600, RARELY), (1, 5, 600, RARELY)]
NUM_DRAWS = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--num-runs", type=int, default=500, help="studies of each kind")
    num_runs = parser.parse_args().num_runs
    print("| seeds | questions | seeds differ | covers | p < .05 | one seed | width |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for first, second, num_questions, apart in CASES:
        covers, rejects, alone, width = simulate(first, second, num_questions, apart, num_runs)
        seeds = f"{first} and {second}" + (", the first not trained" if first == 1 else "")
        shown = "-" if apart == RARELY else f"{alone:.3f}"
        differ = "one in ten breaks down" if apart == RARELY else f"{apart:.1f}"
        print(f"| {seeds} | {num_questions} | {differ} | {covers:.3f} | {rejects:.3f} | {shown} | {width:.1f} |")


def simulate(
    first: int, second: int, num_questions: int, apart: float, num_runs: int
) -> tuple[float, float, float, float]:
    """Returns the share of intervals that cover, of tests that reject, of single-seed tests that do, and the width."""
    draw = np.random.default_rng(0)
    truth = find_truth(apart)
    num_covered = num_rejected = num_alone = 0
    widths: list[float] = []
    for _ in range(num_runs):
        skill_Q = draw.normal(SKILL, SPREAD_OF_DIFFICULTY, num_questions)
        before, after = (draw_answers(draw, num, skill_Q, apart if num > 1 else 0.0) for num in (first, second))
        names = [""] * num_questions
        parts = [Part(1, after, "after", "b", names), Part(-1, before, "before" if first > 1 else "", "b", names)]
        found = estimate(parts, num_draws=NUM_DRAWS)
        assert found is not None, "every question was answered"
        num_covered += found.interval.low <= truth <= found.interval.high
        num_rejected += found.differs_from(truth) < 0.05
        num_alone += mcnemar(int((after[0] > before[0]).sum()), int((after[0] < before[0]).sum())) < 0.05
        widths.append(100 * (found.interval.high - found.interval.low))
    return num_covered / num_runs, num_rejected / num_runs, num_alone / num_runs, median(widths)


def find_truth(apart: float) -> float:
    """Returns the true difference between the arms, as a share of the questions."""
    if apart != RARELY:
        return 0.0
    skill = np.random.default_rng(1).normal(SKILL, SPREAD_OF_DIFFICULTY, 1_000_000)
    return SHARE_BROKEN * float((to_share(skill - LOSS) - to_share(skill)).mean())


def to_share(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits))


def draw_answers(
    draw: np.random.Generator, num_seeds: int, skill_Q: NDArray[np.float64], apart: float
) -> NDArray[np.float64]:
    """Right answers (seeds, questions)."""
    if apart == RARELY:
        shifts_S1 = -LOSS * (draw.random((num_seeds, 1)) < SHARE_BROKEN)
    else:
        shifts_S1 = apart * draw.standard_normal((num_seeds, 1))
    logits = skill_Q + shifts_S1
    return (draw.random(logits.shape) < to_share(logits)).astype(np.float64)


if __name__ == "__main__":
    main()
