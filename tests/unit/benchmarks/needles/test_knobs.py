"""The settings of needles: one schema in the benchmark's name, for commands, Python and recipes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks import load_again, load_benchmark
from p2r.benchmarks.needles import Needles, SceneImage
from p2r.benchmarks.needles.knobs import Knobs, parse_knobs
from p2r.benchmarks.needles.scene import Scene
from p2r.benchmarks.training_rows import load_source
from p2r.config import DataSettings, parse_recipe
from p2r.errors import ConfigError, P2RError
from p2r.types import Sample


def scene_of(sample: Sample) -> Scene:
    assert isinstance(sample.image, SceneImage)
    return sample.image.scene


def test_settings_are_read_from_the_name() -> None:
    knobs = parse_knobs(
        "side_px=2048, num_objects=8-10,object_share=0.12-0.13,noise=8,num_distractors=4,"
        "families=text+pair,forms=choice"
    )
    assert knobs == Knobs(
        side_px=2048,
        num_objects=(8, 10),
        object_share=(0.12, 0.13),
        noise=8,
        num_distractors=4,
        families=("text", "pair"),
        forms=("choice",),
    )
    assert parse_knobs("") == Knobs()
    assert parse_knobs("num_objects=5").num_objects == (5, 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "side_px=4096,period_share=0.00105,detail_share=0.01",
        "num_objects=3-9,object_share=0.1-0.12,detail_share=0.03,texture=0,noise=2.5",
        "background=natural,families=absent+text+relation,forms=choice",
        "families=where",
    ],
)
def test_what_was_read_is_written_as_it_can_be_read_again(text: str) -> None:
    assert parse_knobs(parse_knobs(text).text) == parse_knobs(text)


def test_defaults_are_not_part_of_the_text_and_every_way_to_write_a_value_is_one() -> None:
    assert parse_knobs("noise=4,side_px=1024,families=attribute+relation+pair").text == ""
    assert (
        parse_knobs("noise=8.0,side_px=2048").text == parse_knobs("side_px=2048,noise=8").text == "side_px=2048,noise=8"
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("7", "'7' sets nothing", "needles:side_px=2048"),
        ("noice=4", "needles has no setting 'noice'", "did you mean noise?"),
        ("zzz=4", "needles has no setting 'zzz'", "side_px, num_objects"),
        ("noise=4,noise=8", "noise is stated twice", "once"),
        ("noise=loud", "needles: noise=loud: it must be a number", "the default is noise=4"),
        ("noise=-1", "noise=-1: it must be at least 0", "noise=4"),
        ("noise=nan", "noise=nan: it must be a finite number", "noise=4"),
        ("noise=", "noise=: it must be a number", "noise=4"),
        ("noise=inf", "noise=inf: it must be a finite number", "noise=4"),
        ("side_px=100", "side_px=100: it must be at least 768", "side_px=1024"),
        ("side_px=8192", "side_px=8192: it must be at most 4096", "side_px=1024"),
        ("side_px=2k", "side_px=2k: it must be a whole number", "side_px=1024"),
        ("num_objects=0", "num_objects=0: it must be 1 <= LEAST <= MOST <= 12", "num_objects=4-6"),
        ("num_objects=9-3", "num_objects=9-3: it must be 1 <= LEAST", "num_objects=4-6"),
        ("num_objects=many", "num_objects=many: it must be a whole number, or two with a -", "num_objects=4-6"),
        ("num_objects=8-", "num_objects=8-: it must be a whole number, or two with a -", "num_objects=4-6"),
        ("num_objects=4-6-8", "num_objects=4-6-8: it must be a whole number, or two", "num_objects=4-6"),
        ("num_objects=4.5", "num_objects=4.5: it must be a whole number", "num_objects=4-6"),
        ("object_share=0.1-wide", "object_share=0.1-wide: it must be a number, or two", "object_share=0.13-0.152"),
        ("object_share=0.9", "object_share=0.9: it must be 0 < LEAST <= MOST <= 0.5", "object_share=0.13-0.152"),
        (
            "num_objects=12,object_share=0.3",
            "num_objects=12: 12 objects of 30% of the side, the largest object_share, are too many",
            "object_share=0.13-0.152",
        ),
        ("object_share=0.2-0.1", "object_share=0.2-0.1: it must be 0 < LEAST", "object_share=0.13-0.152"),
        ("num_distractors=11", "it must be at most 10", "num_distractors=2"),
        ("detail_share=0.1", "detail_share=0.1 is more than half of the smallest object, 0.13", "detail_share=0.056"),
        (
            "detail_share=0.005",
            "detail_share=0.005 has no room for two stripe periods, period_share=0.0042",
            "detail_share=0.056",
        ),
        (
            "period_share=0.002",
            "period_share=0.002 is 2 px of side_px=1024, too narrow to be drawn",
            "period_share=0.0042",
        ),
        (
            "period_share=0.008,families=text",
            "period_share=0.008 prints text 0.192 wide, wider than the smallest object, 0.13",
            "period_share=0.0042",
        ),
        (
            "families=attributes",
            "families=attributes: it must be attribute, relation, pair, text, absent or where",
            "families=attribute+relation+pair",
        ),
        ("families=text+text", "families=text+text: it has the same entry twice", "families=attribute+relation+pair"),
        ("families=text+where", "families=text+where: where is scored by boxes", "families=attribute+relation+pair"),
        ("families=where,forms=choice", "forms=choice: the family where asks for boxes", "forms=free_form+choice"),
        ("families=text+txt", "families=text+txt: 'txt' must be attribute,", "families=attribute+relation+pair"),
        ("families=", "families=: it must be attribute", "families=attribute+relation+pair"),
        ("forms=number", "forms=number: it must be free_form or choice", "forms=free_form+choice"),
        ("background=natrual", "background=natrual is neither a kind", "strokes, natural"),
        ("background=", "background=: it must be text, and not empty", "background=strokes"),
    ],
)
def test_what_cannot_be_is_refused_with_its_value_and_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_benchmark(f"needles:{text}")
    assert message in error.value.message, error.value.message
    assert hint in error.value.hint, error.value.hint
    assert "\n" not in error.value.message


@pytest.mark.parametrize("family", ["relation", "pair"])
def test_a_family_of_two_objects_needs_two(family: str) -> None:
    with pytest.raises(ConfigError, match=f"the family {family} asks about two objects"):
        load_benchmark(f"needles:families=text+{family},num_objects=1-4")
    assert len(load_benchmark("needles:families=text+absent,num_objects=1", num_samples=2)[0].gold_boxes) == 1


def test_settings_are_part_of_what_a_run_is_known_by() -> None:
    plain, loud = (load_benchmark(spec, num_samples=4) for spec in ("needles", "needles:noise=8"))
    assert [sample.question for sample in plain] == [sample.question for sample in loud]
    assert plain.fingerprint != loud.fingerprint, (
        "the pixels differ, so a run must not continue with the other's answers"
    )
    assert loud[1].id == loud[1].image.uri == "needles:noise=8:0/1"
    assert (loud.name, loud.source) == ("needles", "needles:noise=8:0")
    assert loud.origin is not None and load_again(loud.origin).fingerprint == loud.fingerprint
    assert load_benchmark("needles:noise=4", num_samples=4).fingerprint == plain.fingerprint


def test_a_recipe_takes_the_same_names() -> None:
    data = DataSettings(source="needles:families=text,noise=8", num_rows=3, seed=2)
    assert data.is_generated
    rows = load_source(data)
    assert [sample.id for sample in rows] == [f"needles:noise=8,families=text:1000002/{k}" for k in range(3)]
    with pytest.raises(ConfigError, match=r"data\.num_rows is needed for needles"):
        parse_recipe({"out": "o", "data": {"source": "needles:noise=8"}}, where="")
    with pytest.raises(P2RError, match="needles has no setting 'nose'"):
        load_source(DataSettings(source="needles:nose=8", num_rows=3))


def test_a_probe_asks_300_questions_unless_it_says_otherwise() -> None:
    recipe = parse_recipe(
        {"out": "o", "data": {"source": "rows.jsonl"}, "probe": {"source": "needles:noise=8"}}, where=""
    )
    assert recipe.probe.num == 300


@pytest.mark.parametrize("num_distractors", [0, 1, 5, 10])
def test_distractors_share_the_first_color_or_shape(num_distractors: int) -> None:
    knobs = Knobs(num_objects=(12, 12), num_distractors=num_distractors)
    for sample in Needles(seed=3, num_samples=9, knobs=knobs):
        objects = scene_of(sample).objects
        names = list(dict.fromkeys(item.name for item in objects))
        first = objects[0]
        kin = [name for name in names[1:] if first.color in name.split() or first.shape in name.split()]
        assert len(kin) >= min(num_distractors, len(names) - 1)


@pytest.mark.parametrize("text", ["num_objects=12", "num_objects=4,object_share=0.3", "num_objects=8,object_share=0.2"])
def test_every_scene_that_is_allowed_finds_places_for_its_objects(text: str) -> None:
    assert all(sample.gold_boxes for sample in Needles(seed=1, num_samples=30, knobs=parse_knobs(text)))


def test_a_folder_of_photographs_is_known_by_its_contents_and_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        Image.new("RGB", (64, 48), (200, 10, 10)).save(tmp_path / place / "red.png")
    monkeypatch.chdir(tmp_path)
    first, other = (load_benchmark(f"needles:background={place}", num_samples=2) for place in ("a", "b"))
    assert first.fingerprint == other.fingerprint
    assert first.origin is not None
    assert first.origin.spec == f"needles:background={tmp_path / 'a'}"
    assert "photographs-" in first[0].id and str(tmp_path) not in first[0].id
    monkeypatch.chdir("/")
    assert load_again(first.origin).fingerprint == first.fingerprint
