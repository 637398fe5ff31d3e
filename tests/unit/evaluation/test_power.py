"""`p2r power`: what is counted, and that the table says what the exact test can do."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.base import Benchmark, Facts
from p2r.cli.app import app
from p2r.errors import ConfigError
from p2r.evaluation.power import DIFFERING, count_published_questions, count_questions, tabulate_power
from p2r.statistics import find_detectable_difference, find_power, mcnemar, permute_clusters


def power(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["power", *arguments])


def test_rotations_are_one_question() -> None:
    needles = load_benchmark("needles", num_samples=6).samples
    samples = [
        *needles[:2],
        *(replace(sample, cluster="one", cycle=number) for number, sample in enumerate(needles[2:])),
    ]
    assert count_questions(Benchmark(samples, Facts("mine"))) == Counter({1: 2, 4: 1})


def test_published_sizes_need_no_data() -> None:
    assert count_published_questions(Facts("vstar", 191)) == {1: 191}
    assert count_published_questions(Facts("hrbench_8k", 800, aggregation="cycles")) == {4: 200}
    assert count_published_questions(Facts("mine")) == {}


def test_each_row_is_what_the_test_can_do() -> None:
    table = tabulate_power("vstar", {1: 191}, 3.0)
    assert [row[0] for row in table.rows] == ["5%", "10%", "20%", "30%", "50%"]
    for share, (_, found, least) in zip(DIFFERING, table.rows, strict=True):
        assert found == f"{find_power(0.03, {1: share}, 191, 191):.0%}"
        assert least == f"{100 * (find_detectable_difference({1: share}, 191, 191) or 0):.1f}"
    assert table.notes[0].startswith("191 questions; ")


def test_rotations_differ_by_some_of_their_samples() -> None:
    table = tabulate_power("hrbench_8k", {4: 200}, 3.0)
    spread = {1: 4 * 0.1 * 0.9**3, 2: 6 * 0.1**2 * 0.9**2, 3: 4 * 0.1**3 * 0.9, 4: 0.1**4}
    assert table.rows[1][1] == f"{find_power(0.03, spread, 200, 800):.0%}"
    assert table.notes[0].startswith("200 questions, 800 samples with rotations; ")
    assert "Rotations" in table.notes[-1]


def test_a_gain_that_cannot_be_is_left_open() -> None:
    rows = tabulate_power("vstar", {1: 191}, 8.0).rows
    assert rows[0][1] == "-" and rows[1][1] != "-"


@pytest.mark.parametrize("num", [10, 43, 81, 191])
@pytest.mark.parametrize("size", [1, 4])
def test_the_largest_gain_that_can_be_is_not_left_open(num: int, size: int) -> None:
    """Runs that differ on 5% of the samples are 5 points apart where all of these are gained."""
    table = tabulate_power("mine", {size: num}, 5.0)
    assert table.rows[0][1].endswith("%")


def weigh(num: int, share: float) -> list[float]:
    return [math.comb(num, k) * share**k * (1 - share) ** (num - k) for k in range(num + 1)]


@pytest.mark.parametrize(("num", "share", "gain"), [(12, 0.5, 0.4), (30, 0.2, 0.15), (60, 0.3, 0.1), (60, 0.1, 0.1)])
def test_the_power_is_that_of_all_possible_comparisons(num: int, share: float, gain: float) -> None:
    positive = (1 + gain / share) / 2
    found = math.fsum(
        chance * each
        for differing, chance in enumerate(weigh(num, share))
        for gained, each in enumerate(weigh(differing, min(1.0, positive)))
        if mcnemar(gained, differing - gained) <= 0.05
    )
    assert find_power(gain, {1: share}, num, num) == pytest.approx(found, abs=0.01)


def test_the_power_of_rotations_is_that_of_many_simulated_comparisons() -> None:
    draw, num, positive = np.random.default_rng(6), 30, 0.8
    sizes = draw.binomial(4, 0.3, (1500, num))
    signs = np.where(draw.random((1500, num)) < positive, 1, -1)
    found = np.mean([permute_clusters(row.tolist()) <= 0.05 for row in sizes * signs])
    spread = {size: math.comb(4, size) * 0.3**size * 0.7 ** (4 - size) for size in range(1, 5)}
    assert find_power(0.3 * (2 * positive - 1), spread, num, 4 * num) == pytest.approx(found, abs=0.05)


@pytest.mark.parametrize("gain", [0, -3, 100, float("nan")])
def test_a_gain_is_some_points(gain: float) -> None:
    with pytest.raises(ConfigError, match="`gain` is "):
        tabulate_power("vstar", {1: 191}, gain)


def test_the_command_takes_names_without_data_and_any_data() -> None:
    result = power("vstar", "--gain", "3")
    assert (result.exit_code, "191 questions" in result.stdout) == (0, True), result.output
    result = power("needles", "--gain", "5", "--num-samples", "60", "--markdown")
    assert (result.exit_code, "60 questions" in result.stdout) == (0, True), result.output
    result = power("vstar", "--gain", "0")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "error: --gain is 0, not a difference in points"
