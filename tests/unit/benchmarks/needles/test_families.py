"""The families that are asked for by name: printed text, what is not there, and where something is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2r import evaluate
from p2r.benchmarks import check_benchmark, load_benchmark
from p2r.benchmarks.convert import convert
from p2r.benchmarks.needles import Needles, SceneImage
from p2r.benchmarks.needles.checks import guess_blindly, measure_detail
from p2r.benchmarks.needles.codes import guess_chance
from p2r.benchmarks.needles.knobs import Family, Knobs
from p2r.benchmarks.needles.limits import find_doubt
from p2r.benchmarks.needles.scene import Scene
from p2r.dialogue import Budget
from p2r.errors import ConfigError, DataError
from p2r.models.scripted import ScriptedModel
from p2r.types import LETTERS, Sample

NANO_BUDGET = Budget(factor=32, min_pixels=4096, max_pixels=65536)


def make(family: Family, num_samples: int, *, seed: int = 2, choice: bool | None = None) -> Needles:
    knobs = Knobs(families=(family,)) if choice is None else Knobs(families=(family,), forms=("choice",))
    return Needles(seed=seed, num_samples=num_samples, knobs=knobs)


def scene_of(sample: Sample) -> Scene:
    assert isinstance(sample.image, SceneImage)
    return sample.image.scene


def test_families_and_forms_take_turns_as_they_are_named() -> None:
    samples = load_benchmark("needles:families=absent+text", num_samples=8)
    assert [sample.category for sample in samples] == ["absent", "text"] * 4
    assert [sample.answer_form for sample in samples] == ["free_form", "free_form", "choice", "choice"] * 2


@pytest.mark.parametrize("spec", ["needles:families=text+absent", "needles:families=where"])
def test_right_answers_and_boxes_score_one(spec: str) -> None:
    report = check_benchmark(load_benchmark(spec, num_samples=24), decode_images=False)
    assert report.passed and report.num_answers == report.num_boxes == 24


def test_text_asks_for_the_code_on_one_object() -> None:
    for sample in make("text", 12):
        item = next(each for each in scene_of(sample).objects if each.name in sample.question)
        assert sample.question == f"What code is printed on the {item.name}?"
        said = sample.options[LETTERS.index(sample.target or "")] if sample.options else sample.target
        assert said == item.code
        assert [box.label for box in sample.gold_boxes] == [item.name]
        assert sample.chance == (1 / 4 if sample.options else guess_chance())


def test_absent_asks_about_a_present_object_and_half_of_the_time_with_another_pattern() -> None:
    answers: Counter[str] = Counter()
    for sample in make("absent", 400):
        name = sample.gold_boxes[0].label
        (item,) = [each for each in scene_of(sample).objects if each.name == name]
        asked = sample.question.removeprefix("Is there a ").split()[0]
        assert sample.question == f"Is there a {asked} {name} in the image?" and sample.chance == 1 / 2
        said = sample.options[LETTERS.index(sample.target or "")] if sample.options else sample.target
        assert said == ("yes" if asked == item.pattern else "no")
        answers[said or ""] += 1
    assert abs(answers["yes"] - 200) < 3.3 * 10


def test_the_wording_of_absent_says_nothing() -> None:
    """Pattern, color and shape of the question are as frequent with yes as with no."""
    yes: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for sample in make("absent", 4000, seed=8, choice=True):
        words = sample.question.removeprefix("Is there a ").removesuffix(" in the image?").split()
        every.update(words)
        if sample.options[LETTERS.index(sample.target or "")] == "yes":
            yes.update(words)
    assert len(every) == 18
    for word, count in every.items():
        assert abs(yes[word] / count - 0.5) < 3.5 * 0.5 / np.sqrt(count), word


@pytest.mark.parametrize("family", ["text", "absent"])
def test_blind_strategies_stay_at_chance(family: Family) -> None:
    samples = list(make(family, 2400, seed=6, choice=True))
    chance = np.mean([sample.chance or 0 for sample in samples])
    margin = 3.5 * np.sqrt(chance * (1 - chance) / len(samples))
    scores = guess_blindly(samples)
    assert ("option yes" in scores) == (family == "absent") and "most shared characters" in scores
    for strategy, accuracy in scores.items():
        assert abs(accuracy - chance) < margin, strategy


def test_options_that_give_themselves_away_by_their_characters_are_found() -> None:
    """Four codes, three of them the right one with one change each: the middle of them is right."""
    options = ("HK3T", "HK3C", "HK9T", "DK3T")
    samples = [replace(sample, options=options, target="A") for sample in make("text", 20, choice=True)]
    assert guess_blindly(samples)["most shared characters"] == 1.0


@pytest.mark.parametrize("background", ["strokes", "natural"])
@pytest.mark.parametrize("side_px", [1024, 2048])
def test_no_size_and_no_background_shows_details_in_one_look(side_px: int, background: str) -> None:
    knobs = Knobs(side_px=side_px, background=background, families=("absent", "text"))
    for sample in Needles(seed=1, num_samples=2, knobs=knobs):
        detail = measure_detail(scene_of(sample), NANO_BUDGET)
        assert detail.one_look < 1.0 and detail.crop > 15


def test_a_large_image_with_details_of_the_same_pixels_is_beyond_a_real_budget_as_well() -> None:
    knobs = Knobs(side_px=4096, period_share=0.00076, detail_share=0.014, families=("text",))
    budget = Budget(max_pixels=2048 * 32 * 32)
    sample = Needles(seed=1, num_samples=1, knobs=knobs)[0]
    detail = measure_detail(scene_of(sample), budget)
    assert detail.one_look < 1.0 and detail.crop > 15


def test_where_asks_about_the_scenes_of_attribute_and_is_scored_by_boxes() -> None:
    places, patterns = (load_benchmark(f"needles:families={name}", num_samples=6) for name in ("where", "attribute"))
    assert places.scored_by == "box" and patterns.scored_by == "answer" and places.chance is None
    for place, pattern in zip(places, patterns, strict=True):
        assert place.gold_boxes == pattern.gold_boxes and len(place.gold_boxes) == 1
        assert place.question == f"Where is the {place.gold_boxes[0].label}?" and place.target is None
        assert place.image.load().tobytes() == pattern.image.load().tobytes()


def test_where_is_evaluated_by_acc_at_05_and_only_in_modes_with_boxes() -> None:
    benchmark = load_benchmark("needles:families=where", num_samples=4)
    gold = benchmark[0].gold_boxes[0]
    reply = f'[{{"bbox_2d": [{gold.x1}, {gold.y1}, {gold.x2}, {gold.y2}], "label": "it"}}]'
    model = ScriptedModel({"perceiver": reply, "reasoner": "<answer>never asked</answer>"})
    run = evaluate(benchmark, model)
    right = [row.verdicts["robust"] for row in run.rows]
    assert right[0] is not None and right[0].correct and right[0].judge == "box@0.5"
    assert not any(verdict is not None and verdict.correct for verdict in right[1:])
    with pytest.raises(ConfigError, match="scored by the perceiver's boxes"):
        evaluate(benchmark, model, mode="direct")


def test_where_is_written_in_the_layout_of_reasonseg_and_read_back(tmp_path: Path) -> None:
    samples = load_benchmark("needles:families=where", num_samples=3)
    found = convert(samples, tmp_path / "val", "reasonseg")
    assert (found.num_samples, found.losses) == (3, ("the category of 3 samples",))
    again = load_benchmark(tmp_path / "val")
    assert (again.name, again.scored_by) == ("reasonseg", "box")
    for one, other in zip(samples, again, strict=True):
        assert one.question == other.question
        corners = zip(one.gold_boxes[0].to_pixels(1024, 1024), other.gold_boxes[0].to_pixels(1024, 1024), strict=True)
        assert all(abs(before - after) <= 1 for before, after in corners)
        assert other.image.load().size == (1024, 1024)


def test_what_reasonseg_has_no_place_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 2 gold boxes, and ReasonSeg has one target") as error:
        convert(load_benchmark("needles:families=pair", num_samples=1), tmp_path / "out", "reasonseg")
    assert "families=where" in error.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["text", "absent", "where"])
def test_the_shipped_models_are_warned_of_families_that_they_do_not_know(family: Family) -> None:
    assert {find_doubt(sample) for sample in make(family, 6)} == {"question"}


def test_text_and_absent_are_written_in_the_layout_of_vstar(tmp_path: Path) -> None:
    samples = load_benchmark("needles:families=text+absent,forms=choice", num_samples=4)
    convert(samples, tmp_path / "v", "vstar")
    assert len(load_benchmark(tmp_path / "v")) == 4
