"""Printed codes: known pixels, uniform, readable in a crop, and nothing to see in one look."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from p2r.benchmarks.needles import Needles, SceneImage, draw_question
from p2r.benchmarks.needles.checks import measure_detail, read_with_templates
from p2r.benchmarks.needles.codes import (
    CHARACTERS,
    FIRST_CHARACTERS,
    FONT,
    HEIGHT,
    PLATE_PERIODS,
    WIDTH,
    draw_code,
    draw_options,
    draw_plate,
    guess_chance,
)
from p2r.benchmarks.needles.knobs import Knobs
from p2r.benchmarks.needles.scene import Scene
from p2r.benchmarks.row_layouts.answer_form import infer_form
from p2r.dialogue import Budget
from p2r.types import Sample

NANO_BUDGET = Budget(factor=32, min_pixels=4096, max_pixels=65536)


def scene_of(sample: Sample) -> Scene:
    assert isinstance(sample.image, SceneImage)
    return sample.image.scene


def test_every_character_is_drawn_in_dots_and_unlike_the_others() -> None:
    assert len(FONT) == 20 and not set("AEIOU0158BGMQSWZ") & set(FONT)
    for rows in FONT.values():
        assert len(rows) == HEIGHT and {len(row) for row in rows} == {WIDTH}
        assert set("".join(rows)) == {"#", "."}
    dots = {letter: np.array([[dot == "#" for dot in row] for row in rows]) for letter, rows in FONT.items()}
    assert min((dots[one] != dots[other]).sum() for one in FONT for other in FONT if one < other) >= 3


def test_a_known_plate_is_unchanged() -> None:
    assert draw_plate("H7KX4P", 4.3).shape == (32, 103, 3)
    digest = hashlib.sha256(draw_plate("H7KX4P", 4.3).tobytes() + draw_plate("TR29", 17.2).tobytes())
    assert digest.hexdigest()[:16] == "dfcc4d27352f803f"


@pytest.mark.parametrize("period_px", [2.5, 4.3, 17.2])
def test_all_plates_have_one_size_and_one_gray(period_px: float) -> None:
    empty = draw_plate("", period_px)
    assert np.unique(empty).tolist() == [128]
    assert empty.shape[1] == pytest.approx(PLATE_PERIODS * period_px, abs=0.5)
    for seed in range(20):
        plate = draw_plate(draw_code(np.random.RandomState(seed)), period_px)
        assert plate.shape == empty.shape and abs(plate.mean() - 128) < 0.2


def test_codes_are_uniform_and_begin_with_a_letter() -> None:
    codes = [draw_code(np.random.RandomState([1, k])) for k in range(3000)]
    lengths = Counter(map(len, codes))
    assert sorted(lengths) == [4, 5, 6] and min(lengths.values()) > 900
    firsts, thirds = Counter(code[0] for code in codes), Counter(code[2] for code in codes)
    assert set(firsts) == set(FIRST_CHARACTERS) and min(firsts.values()) > 150
    assert set(thirds) == set(CHARACTERS) and min(thirds.values()) > 95
    assert guess_chance() == pytest.approx(1 / (3 * 14 * 20**3))


def test_no_code_is_taken_for_a_number_or_a_word() -> None:
    for k in range(500):
        code = draw_code(np.random.RandomState([2, k]))
        assert infer_form("What code is printed on the red star?", code, ()).form == "free_form", code


def test_options_are_a_grid_of_two_characters_at_two_places() -> None:
    for k in range(100):
        rng = np.random.RandomState([3, k])
        code = draw_code(rng)
        options = draw_options(rng, code)
        assert code in options and len(set(options)) == 4 and {len(option) for option in options} == {len(code)}
        assert all(option[0] in FIRST_CHARACTERS for option in options)
        counts = sorted(len(set(place)) for place in zip(*options, strict=True))
        assert counts == [1] * (len(code) - 2) + [2, 2]


@pytest.mark.parametrize(("side_px", "num"), [(768, 2), (1024, 3), (2048, 1), (4096, 1)])
def test_one_look_shows_an_empty_plate_at_every_size_and_a_crop_the_code(side_px: int, num: int) -> None:
    for sample in Needles(seed=4, num_samples=num, knobs=Knobs(side_px=side_px, families=("text",))):
        detail = measure_detail(scene_of(sample), NANO_BUDGET)
        assert detail.one_look < 1.0
        assert detail.crop > 15


def test_even_a_reader_who_knows_all_candidates_reads_a_crop_and_not_the_whole_image() -> None:
    knobs = Knobs(families=("text",))
    whole, crops, num = 0, 0, 12
    for k in range(num):
        scene, question = draw_question(np.random.RandomState([5, k]), knobs, "text", choice=True)
        subject = question.subjects[0]
        item = scene.objects[subject]
        candidates = [replace(item, code=code) for code in question.options]
        whole += read_with_templates(scene, subject, candidates, NANO_BUDGET, in_crop=False) == item
        crops += read_with_templates(scene, subject, candidates, NANO_BUDGET, in_crop=True) == item
    assert crops >= num - 1
    assert whole <= 7, "at chance more are right in 3 of 1000 cases"
