"""The shipped models are warned of when they are asked something else than needles, and of no needle."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from PIL import Image

from p2r import P2R, evaluate
from p2r.benchmarks import load_benchmark
from p2r.benchmarks.needles import Needles
from p2r.benchmarks.needles.knobs import Family, Knobs
from p2r.benchmarks.needles.limits import find_doubt, warn_of_limits
from p2r.benchmarks.vstar_write import write_vstar
from p2r.errors import P2RWarning
from p2r.images.load import read_size
from p2r.models.load import Loading
from p2r.models.scripted import ScriptedModel
from p2r.prompts import question_text
from p2r.types import AnswerForm, Sample

REPLIES = {"perceiver": "[]", "reasoner": "<answer>plain</answer>"}
STAR = "What pattern is on the red star?"


def make(question: str, *options: str, form: AnswerForm | None = None) -> Sample:
    image = Needles(seed=1)[0].image
    return Sample("1", image, question, options, form or ("choice" if options else "free_form"))


@pytest.fixture
def nano(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """A script that counts as nano."""
    model = ScriptedModel(REPLIES)
    for module in ("p2r.api", "p2r.benchmarks.needles.limits"):
        monkeypatch.setattr(f"{module}.loading_of", lambda model: Loading(spec="nano"))
    return model


@pytest.mark.parametrize("forms", [("free_form", "choice"), ("choice",)])
@pytest.mark.parametrize("seed", [0, 7, 9000, 1_000_003])
def test_no_needle_raises_a_doubt(seed: int, forms: tuple[AnswerForm, ...]) -> None:
    for sample in Needles(seed=seed, num_samples=90, knobs=Knobs(forms=forms)):
        assert find_doubt(sample, read_size(sample.image)) is None, question_text(sample)


@pytest.mark.parametrize("side_px", [768, 4096])
def test_needles_of_other_sizes_raise_no_doubt(side_px: int) -> None:
    for sample in Needles(seed=3, num_samples=6, knobs=Knobs(side_px=side_px)):
        assert find_doubt(sample, read_size(sample.image)) is None


def test_needles_in_the_layout_of_vstar_raise_no_doubt(tmp_path: Path) -> None:
    write_vstar(Needles(seed=4, num_samples=18, knobs=Knobs(forms=("choice",))), tmp_path)
    samples = load_benchmark(f"vstar:{tmp_path}")
    assert {find_doubt(sample, read_size(sample.image)) for sample in samples} == {None}


@pytest.mark.parametrize("family", ["text", "absent", "where"])
def test_families_that_the_models_do_not_know_raise_a_doubt(family: Family) -> None:
    knobs = Knobs(families=(family,))
    assert {find_doubt(sample) for sample in Needles(seed=6, num_samples=6, knobs=knobs)} == {"question"}


@pytest.mark.parametrize(
    "options",
    [
        "\nA. plain\nB. checked",
        "\n(A) plain\n(B) checked\nAnswer with the option's letter from the given choices directly.",
        " Options: A. plain, B. checked",
        "\nOptions:\n(A) plain\n(B) checked",
        "\nOPTIONS\nplain\nchecked",
        "\nOptions:\nA. plain\nB. checked",
    ],
)
def test_options_may_be_written_in_any_layout(options: str) -> None:
    assert find_doubt(make(STAR + options)) is None


@pytest.mark.parametrize(
    "sample",
    [
        make("What is on the sail?"),
        make("What is on the sail?", "a star", "a fish"),
        make(STAR, "a star", "a fish"),
        make(STAR, "plain", "dotted"),
        make("What pattern is on the red sail?"),
        make("What pattern is on the pink star?"),
        make("How many red stars are there?"),
        make(STAR + " And why?"),
        make("Tell me: " + STAR),
        make(STAR + "\nAnswer directly."),
        make(STAR + "\nIs the wall plain?"),
    ],
    ids=question_text,
)
def test_a_question_that_is_no_needle_raises_a_doubt(sample: Sample) -> None:
    assert find_doubt(sample) == "question"


def test_a_count_of_two_objects_raises_no_doubt() -> None:
    assert find_doubt(make("How many of the red star and the blue ring are checked?", form="number")) is None


def test_a_question_may_differ_in_case_and_blanks() -> None:
    assert find_doubt(make(f" {STAR.lower()} ")) is None


@pytest.mark.parametrize("size", [(1024, 768), (1024, 1025), (767, 767), (4097, 4097)])
def test_an_image_of_another_shape_raises_a_doubt(size: tuple[int, int]) -> None:
    assert find_doubt(make(STAR), size) == "image"


def test_asking_nano_about_a_photo_warns_what_it_is_and_what_to_take(nano: ScriptedModel) -> None:
    photo = Image.new("RGB", (1024, 768))
    with pytest.warns(P2RWarning) as caught:
        P2R(nano).ask(photo, "What is on the sail?")
        P2R(nano).ask(photo, STAR)
    question, image = (str(warning.message) for warning in caught)
    assert "this question is something else" in question and "this image is something else" in image
    for text in (question, image):
        assert text.startswith("nano is a tiny model that knows the images and questions of `p2r demo` alone")
        assert "p2r-4b" in text and "p2r models" in text and "\n" not in text


def test_asking_nano_about_a_needle_is_silent_and_so_is_any_other_model(nano: ScriptedModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sample in Needles(seed=5, num_samples=6):
            P2R(nano).ask_sample(sample)


def test_other_models_are_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        P2R(ScriptedModel(REPLIES)).ask(Image.new("RGB", (64, 48)), "What is on the sail?")


def test_nano_as_the_perceiver_alone_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    model, looker = ScriptedModel(REPLIES), ScriptedModel(REPLIES)
    spec = {id(model): "p2r-8b", id(looker): "nano-base"}
    monkeypatch.setattr("p2r.benchmarks.needles.limits.loading_of", lambda model: Loading(spec=spec[id(model)]))
    with pytest.warns(P2RWarning, match="nano-base is a tiny model"):
        warn_of_limits((model, looker), [make("What is that?")])


def test_an_evaluation_warns_once_and_counts(nano: ScriptedModel) -> None:
    samples = [make("What is that?"), make("Who?"), make(STAR), make(STAR + "\n(A) plain\n(B) checked")]
    with pytest.warns(P2RWarning) as caught:
        warn_of_limits((nano, None), samples)
    assert len(caught) == 1
    assert "what 2 of 4 questions ask is something else" in str(caught[0].message)


def test_an_evaluation_on_needles_is_silent(nano: ScriptedModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate("needles", nano, mode="direct", limit=6)


def test_a_sample_that_cannot_be_asked_is_left_to_the_walk() -> None:
    assert find_doubt(make(STAR, "plain")) is None
    assert find_doubt(make(" ")) is None
