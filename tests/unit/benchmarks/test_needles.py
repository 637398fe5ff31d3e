"""Needles: the same for ever, balanced, and blind to one look."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.needles import Needles
from p2r.benchmarks.needles.checks import guess_blindly, measure_detail
from p2r.benchmarks.needles.knobs import Knobs
from p2r.benchmarks.needles.render import render
from p2r.benchmarks.needles.scene import draw_scene
from p2r.dialogue import Budget
from p2r.types import LETTERS

NANO_BUDGET = Budget(factor=32, min_pixels=4096, max_pixels=65536)


def test_the_same_seed_gives_the_same_pixels_and_questions() -> None:
    first, again = Needles(seed=3, num_samples=4), Needles(seed=3, num_samples=9)
    assert [sample.question for sample in first] == [sample.question for sample in again[:4]]
    assert first[2].image.load().tobytes() == again[2].image.load().tobytes()


def test_a_known_scene_is_unchanged() -> None:
    """A change of the drawing code changes every published figure: this test makes it a decision."""
    sample = Needles(seed=0, num_samples=1)[0]
    assert sample.question == "What pattern is on the purple bar?"
    assert sample.target == "horizontal"
    assert sample.gold_boxes[0].xyxy == (333.0, 539.0, 479.0, 685.0)
    assert np.asarray(sample.image.load()).mean(axis=(0, 1)) == pytest.approx([124.68, 119.38, 97.02], abs=0.01)


@pytest.mark.parametrize(
    ("seed", "questions", "pixels"),
    [
        (0, "3e201ae636ef", "0724a74b13b7aacb"),
        (7, "33794ebe7fc7", "f249e7782537b913"),
        (1_000_003, "578aa9e5ecb7", "9e8d518411c31f2f"),
    ],
)
def test_the_benchmark_is_the_same_to_the_bit_as_when_its_first_figures_were_published(
    seed: int, questions: str, pixels: str
) -> None:
    assert load_benchmark("needles", seed=seed, num_samples=90).fingerprint == questions
    digest = hashlib.sha256()
    for sample in Needles(seed=seed, num_samples=12):
        digest.update(sample.image.load().tobytes())
    assert digest.hexdigest()[:16] == pixels


def test_other_sizes_and_noise_are_the_same_to_the_bit() -> None:
    small = Needles(seed=3, num_samples=2, knobs=Knobs(side_px=768))[1].image.load()
    large = Needles(seed=3, num_samples=2, knobs=Knobs(side_px=2048, noise=0))[0].image.load()
    assert [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in (small, large)] == [
        "36de868d02f0a118",
        "c3d0fa4ecad4a665",
    ]


def test_families_and_answer_forms_take_turns() -> None:
    samples = Needles(seed=1, num_samples=12)
    assert [sample.category for sample in samples][:3] == ["attribute", "relation", "pair"]
    assert [sample.answer_form for sample in samples] == (["free_form"] * 3 + ["choice"] * 3) * 2


def test_gold_boxes_frame_the_named_objects() -> None:
    for sample in Needles(seed=2, num_samples=30):
        assert len(sample.gold_boxes) == (1 if sample.category == "attribute" else 2)
        assert all(0 <= box.x1 < box.x2 <= 1000 and box.label in sample.question for box in sample.gold_boxes)


def test_a_relation_is_between_two_objects_of_one_name_with_the_left_one_first() -> None:
    for sample in Needles(seed=4, num_samples=60):
        if sample.category == "relation":
            left, right = sample.gold_boxes
            assert left.label == right.label
            assert right.center[0] - left.center[0] > 100


def test_the_target_of_a_choice_is_the_letter_of_the_answer() -> None:
    for sample, same_scene in zip(
        Needles(seed=5, num_samples=40, knobs=Knobs(forms=("choice",))), range(40), strict=True
    ):
        assert sample.target in LETTERS[: len(sample.options)], same_scene
        assert len(set(sample.options)) == len(sample.options)


def test_blind_strategies_stay_at_chance() -> None:
    for category in ("attribute", "relation", "pair"):
        samples = [
            s for s in Needles(seed=6, num_samples=3600, knobs=Knobs(forms=("choice",))) if s.category == category
        ]
        chance = np.mean([sample.chance for sample in samples])
        margin = 3.3 * np.sqrt(chance * (1 - chance) / len(samples))  # 99.9%
        for strategy, accuracy in guess_blindly(samples).items():
            if not (category == "relation" and strategy in ("letter C", "letter D")):
                assert abs(accuracy - chance) < margin, (category, strategy)


def test_one_look_at_the_nano_budget_does_not_show_the_details_and_a_crop_does() -> None:
    for index in range(6):
        scene = draw_scene(np.random.RandomState([8, index]), Knobs(), twins=index % 2 == 0)
        detail = measure_detail(scene, NANO_BUDGET)
        assert detail.one_look < 1.0  # below the image's own noise after the reduction
        assert detail.crop > 20


@pytest.mark.parametrize("side_px", [768, 2048])
def test_other_sizes_show_the_same_scene(side_px: int) -> None:
    knobs = Knobs(side_px=side_px, period_share=0.0042)
    image = render(draw_scene(np.random.RandomState(1), knobs, twins=False))
    assert image.size == (side_px, side_px)


def test_knobs_refuse_stripes_that_cannot_be_drawn() -> None:
    with pytest.raises(ValidationError, match=r"2\.5 px is the least"):
        Knobs(period_share=0.002)
