"""Which samples are asked: draws, shards, and modes that a benchmark does not allow."""

from __future__ import annotations

import pytest
from PIL import Image

from p2r.benchmarks import Benchmark, Facts
from p2r.errors import ConfigError
from p2r.evaluation.choose import choose_samples, draw_limit, group_neighbors, take_shard
from p2r.images.load import MemoryImage
from p2r.types import Sample

IMAGES = [MemoryImage(Image.new("RGB", (8, 8)), name=f"image {k}") for k in range(3)]


def make_samples(count: int) -> list[Sample]:
    return [Sample(id=str(k), image=IMAGES[k % 3], question=f"What is {k}?") for k in range(count)]


def test_rows_of_one_image_stand_together() -> None:
    order = [sample.image.uri for sample in group_neighbors(make_samples(9))]
    assert order == ["image 0"] * 3 + ["image 1"] * 3 + ["image 2"] * 3


def rotations(num_questions: int) -> list[Sample]:
    return [
        Sample(id=f"{q}.{cycle}", image=IMAGES[0], question="?", cluster=f"q{q}", cycle=cycle)
        for cycle in range(4)
        for q in range(num_questions)
    ]


def test_shards_are_disjoint_whole_and_keep_questions_together() -> None:
    samples = rotations(7)
    shards = [take_shard(samples, f"{k}/3") for k in (1, 2, 3)]
    assert sorted(s.id for shard in shards for s in shard) == sorted(s.id for s in samples)
    clusters = [{sample.cluster for sample in shard} for shard in shards]
    assert sum(map(len, clusters)) == 7


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(shard: str) -> None:
    with pytest.raises(ConfigError, match="is not a shard"):
        take_shard(make_samples(3), shard)


def test_a_limit_draws_whole_questions_in_the_order_of_the_benchmark() -> None:
    samples = rotations(10)
    drawn = draw_limit(samples, 10, seed=1)
    assert len(drawn) == 8 and len({sample.cluster for sample in drawn}) == 2
    assert drawn == [sample for sample in samples if sample in drawn]
    assert drawn == draw_limit(samples, 10, seed=1) != draw_limit(samples, 10, seed=2)


@pytest.mark.parametrize("mode", ["direct", "tools", "blind"])
def test_a_benchmark_of_boxes_is_not_asked_in_a_mode_that_has_none(mode: str) -> None:
    benchmark = Benchmark(make_samples(2), Facts("reasonseg", scored_by="box"))
    with pytest.raises(ConfigError, match=f"the mode '{mode}' has none"):
        choose_samples(benchmark, mode)  # type: ignore[arg-type]
    assert len(choose_samples(benchmark, "p2r")) == 2


def test_a_limit_that_fits_everything_draws_nothing() -> None:
    benchmark = Benchmark(make_samples(3), Facts("folder"))
    assert choose_samples(benchmark, "p2r", limit=3, seed=5) == list(benchmark)
    assert len(choose_samples(benchmark, "p2r", limit=2, seed=5)) == 2


def test_a_limit_below_one_question_with_its_rotations_is_refused() -> None:
    with pytest.raises(ConfigError, match="a limit of 3 is less than one question"):
        choose_samples(Benchmark(rotations(2), Facts("hrbench_4k")), "p2r", limit=3)
