import asyncio
import gc
import json
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p2r
from p2r import P2R, make_sample, prompts
from p2r.api import revive
from p2r.dialogue import Budget, Decoding, ModelProfile, Prompt
from p2r.errors import ConfigError, DataError, EndpointError, FrameWarning, ImageError, ModelError, P2RError
from p2r.images import remember
from p2r.loop import run_blocking
from p2r.models.scripted import ScriptedModel
from p2r.modes import AskMode
from p2r.prompts import load_prompt_set, question_text
from p2r.types import AnswerForm, Completion, Failure, Sample, Trace

MODES: tuple[AskMode, ...] = ("p2r", "direct", "thinking")
BOXES = '[{"bbox_2d": [100, 100, 300, 300], "label": "sail"}]'


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (320, 240), "navy").save(path)
    return path


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel({"perceiver": BOXES, "reasoner": "<think>A star.</think><answer>A</answer>"})


def test_ask_returns_a_trace_with_answer_and_boxes(photo: Path, model: ScriptedModel) -> None:
    trace = P2R(model).ask(photo, "What is on the sail?", options=["a star", "a fish"])
    assert trace.answer is not None
    assert trace.answer.letter == "A"
    assert [box.label for box in trace.boxes] == ["sail"]
    assert trace.image == str(photo)
    assert trace.verdict is None


def test_ask_judges_when_the_right_answer_is_given(photo: Path, model: ScriptedModel) -> None:
    trace = P2R(model).ask(photo, "What is on the sail?", options=["a star", "a fish"], target="B")
    assert trace.verdict is not None
    assert not trace.verdict.correct


@pytest.mark.parametrize(("target", "correct"), [("A", True), ("a star", True), (" a fish ", False), ("b", False)])
def test_a_target_is_the_letter_or_the_text_of_an_option(
    photo: Path, model: ScriptedModel, target: str, correct: bool
) -> None:
    trace = P2R(model).ask(photo, "What is on the sail?", options=["a star", "a fish"], target=target)
    assert trace.verdict is not None and trace.verdict.correct is correct
    assert trace.target == ("A" if correct else "B")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"options": ["x", "y"], "target": "C"}, "'C' is neither the letter nor the text"),
        ({"options": ["x", "y"], "target": ""}, "'' is neither the letter nor the text"),
        ({"options": ["B", "A"], "target": "A"}, "'A' names more than one option: A, B"),
        ({"target": " "}, "the target is empty"),
        ({"answer_form": "number", "target": "a few"}, "'a few', which is not a number"),
        ({"answer_form": "number", "target": "5-6"}, "'5-6', which is a range and not a number"),
    ],
)
def test_a_target_that_cannot_be_right_is_refused_before_the_model_is_asked(
    photo: Path, settings: dict[str, Any], message: str
) -> None:
    asked: list[Prompt] = []
    model = ScriptedModel({"perceiver": lambda prompt: asked.append(prompt) or "[]", "reasoner": "<answer>A</answer>"})
    with pytest.raises(DataError, match=message) as caught:
        P2R(model).ask(photo, "What?", **settings)
    assert "target" in caught.value.hint or "options" in caught.value.hint
    assert not asked


def test_a_number_or_a_formula_may_be_the_target(photo: Path) -> None:
    for target in ("3", "three", "1/2", "\\sqrt{2}"):
        assert make_sample(photo, "How many?", answer_form="number", target=target).target == target


def test_the_answer_and_the_boxes_read_as_a_person_wants_them(photo: Path, model: ScriptedModel) -> None:
    trace = P2R(model).ask(photo, "What is on the sail?", options=["a star", "a fish"])
    assert str(trace.answer) == "A. a star"
    assert trace.boxes_px == ((32, 24, 96, 72),)
    assert str(Trace.model_validate_json(trace.model_dump_json()).answer) == "A. a star"


def test_a_question_is_put_into_words_once_for_each_role(
    photo: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    worded: list[str] = []

    def count(sample: Sample) -> str:
        worded.append(sample.question)
        return question_text(sample)

    monkeypatch.setattr(prompts, "question_text", count)
    P2R(model).ask(photo, "What?", options=["x", "y"])
    assert worded == ["What?", "What?"]


def test_a_sample_is_asked_as_it_is(photo: Path, model: ScriptedModel) -> None:
    sample = make_sample(photo, "What is on the sail?", options=["a star", "a fish"], target="B", id="seven")
    trace = P2R(model).ask_sample(sample)
    assert (trace.sample_id, trace.target, trace.verdict and trace.verdict.correct) == ("seven", "B", False)
    with pytest.raises(ModelError, match="no reply for the reasoner"):
        P2R(ScriptedModel({"perceiver": BOXES})).ask_sample(sample)


def test_ask_takes_an_image_from_memory(model: ScriptedModel) -> None:
    trace = P2R(model).ask(Image.new("L", (64, 64)), "What?", options=["x", "y"])
    assert trace.evidence is not None
    assert trace.evidence.image_wh == (64, 64)


def test_ask_works_inside_a_running_event_loop_as_in_a_notebook(photo: Path, model: ScriptedModel) -> None:
    async def cell() -> Trace:
        return P2R(model).ask(photo, "What?", options=["x", "y"])

    assert asyncio.run(cell()).answer is not None


async def test_ask_async_runs_side_by_side(photo: Path, model: ScriptedModel) -> None:
    asker = P2R(model)
    traces = await asyncio.gather(*(asker.ask_async(photo, f"What {k}?", options=["x", "y"]) for k in range(5)))
    assert [trace.question for trace in traces] == [f"What {k}?" for k in range(5)]


def test_direct_mode_looks_nowhere(photo: Path, model: ScriptedModel) -> None:
    trace = P2R(model, mode="direct").ask(photo, "What?", options=["x", "y"])
    assert trace.boxes == ()
    assert trace.evidence is not None
    assert not trace.evidence.annotated


def test_thinking_mode_asks_for_steps_without_boxes(photo: Path) -> None:
    texts: list[str] = []

    def reply(prompt: Prompt) -> str:
        texts.append(prompt.text)
        return "<answer>A</answer>"

    P2R(ScriptedModel({"reasoner": reply}), mode="thinking").ask(photo, "What?", options=["x", "y"])
    assert len(texts) == 1
    assert "step by step" in texts[0]


def test_perceiver_and_reasoner_may_be_two_models(photo: Path) -> None:
    looker = ScriptedModel({"perceiver": BOXES}, name="looker")
    thinker = ScriptedModel({"reasoner": "<answer>A</answer>"}, name="thinker")
    trace = P2R(thinker, perceiver_model=looker).ask(photo, "What?", options=["x", "y"])
    assert trace.perception is not None
    assert trace.perception.source == "model:looker"
    assert trace.reasoning is not None
    assert trace.reasoning.model == "thinker"


def test_the_fingerprint_tells_modes_and_wordings_apart(model: ScriptedModel) -> None:
    askers = (P2R(model), P2R(model, mode="direct"), P2R(model, prompts="paper"))
    assert len({asker.fingerprint for asker in askers}) == 3
    assert P2R(model, prompts=load_prompt_set("release")).fingerprint == P2R(model).fingerprint


def test_a_budget_bounds_what_the_model_is_shown(photo: Path) -> None:
    sizes: list[tuple[int, int]] = []

    def reply(prompt: Prompt) -> str:
        sizes.extend(image.size for image in prompt.images)
        return BOXES if prompt.role == "perceiver" else "<answer>A</answer>"

    model = ScriptedModel({"perceiver": reply, "reasoner": reply})
    budget = Budget(factor=32, min_pixels=32 * 32, max_pixels=64 * 64)
    for mode in MODES:
        P2R(model, mode=mode, budget=budget).ask(photo, "What?", options=["x", "y"])
    assert sizes and all(width * height <= 64 * 64 for width, height in sizes)


def test_options_that_say_the_same_are_refused_for_a_question_of_ones_own(photo: Path) -> None:
    with pytest.raises(DataError, match="'red' more than once"):
        make_sample(photo, "What?", options=["red", "blue", " red"])


def test_ask_raises_the_error_that_fits(tmp_path: Path, photo: Path, model: ScriptedModel) -> None:
    with pytest.raises(ImageError, match="there is no file"):
        P2R(model).ask(tmp_path / "missing.jpg", "What?")
    with pytest.raises(DataError, match="empty"):
        P2R(model).ask(photo, "  ")
    with pytest.raises(ModelError, match="no reply for the reasoner"):
        P2R(ScriptedModel({"perceiver": BOXES})).ask(photo, "What?")


def test_the_size_limit_for_images_is_adjustable(photo: Path, model: ScriptedModel) -> None:
    with pytest.raises(ImageError, match="the limit is 1,000"):
        P2R(model, max_image_pixels=1000).ask(photo, "What?")


@pytest.mark.parametrize(("options", "form"), [(("x", "y"), "number"), (("x", "y"), "free_form"), ((), "choice")])
def test_options_and_answer_form_must_fit(photo: Path, options: tuple[str, ...], form: AnswerForm) -> None:
    with pytest.raises(DataError, match="does not go with"):
        make_sample(photo, "What?", options=options, answer_form=form)


@pytest.mark.parametrize(
    ("wrong", "message", "hint"),
    [
        ({"answer_form": "nmber"}, "no answer form 'nmber'", "`answer_form` is one of choice, number, free_form"),
        ({"answer_form": ["number"]}, "no answer form", "answer_form"),
        ({"question": None}, "question is None", "question="),
        ({"target": 5}, "target is 5", "target="),
        ({"options": [1, 2]}, "options holds 1", "options="),
        ({"options": "red,blue"}, "options is 'red,blue'", 'options=["red", "blue"]'),
        ({"options": None}, "options is None", "options="),
        ({"image": None}, "image is None", "a path, a URL, a PIL image"),
        ({"image": 3}, "image is 3", "a path, a URL, a PIL image"),
        ({"question": "caf\udce9"}, r"'caf\udce9' is not text in UTF-8", "set the terminal to UTF-8"),
        ({"image": b"GIF89a"}, "image is b'GIF89a'", "io.BytesIO"),
        ({"image": np.zeros((300, 400, 3), np.uint8)}, "image is array([[[0, 0, 0], [0,", "PIL.Image.fromarray(array)"),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused_by_its_name(
    photo: Path, model: ScriptedModel, wrong: dict[str, Any], message: str, hint: str
) -> None:
    arguments: dict[str, Any] = {"image": photo, "question": "What?", **wrong}
    for door in (make_sample, P2R(model).ask):
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            door(**arguments)
        assert hint in caught.value.hint


def test_an_image_source_of_ones_own_may_be_asked_about(photo: Path) -> None:
    source = MyImage(photo)
    assert make_sample(source, "What?").id == "mine"


def test_a_model_may_be_named(photo: Path, tmp_path: Path) -> None:
    replies = {"perceiver": BOXES, "reasoner": "<answer>A</answer>"}
    script = tmp_path / "replies.json"
    script.write_text(json.dumps(replies))
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"perceiver": "[]"}))
    options = ["a star", "a fish"]
    assert len(P2R(f"scripted:{script}").ask(photo, "What?", options=options).boxes) == 1
    named = P2R(f"scripted:{script}", perceiver_model=f"scripted:{other}")
    assert named.ask(photo, "What?", options=options).boxes == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "foo"}, "there is no mode 'foo'"),
        ({"mode": ["direct"]}, "there is no mode"),
        ({"model": None}, "model is None"),
        ({"perceiver_model": 3}, "perceiver_model is 3"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(model: ScriptedModel, wrong: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"model": model, **wrong}
    with pytest.raises(ConfigError, match=message):
        P2R(**arguments)


def test_a_wrong_mode_is_refused_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(spec: str) -> None:
        raise AssertionError(spec)

    monkeypatch.setattr("p2r.api.load_model", load)
    wrong: Any = "foo"
    with pytest.raises(ConfigError, match="no mode"):
        P2R("nano", mode=wrong)


def test_ask_many_yields_every_trace_and_records_failures(tmp_path: Path, photo: Path, model: ScriptedModel) -> None:
    samples = [make_sample(photo, "What?", options=["x", "y"], id=str(k)) for k in range(4)]
    samples.append(make_sample(tmp_path / "missing.jpg", "What?", options=["x", "y"], id="broken"))
    traces = {trace.sample_id: trace for trace in P2R(model).ask_many(samples, num_at_once=2)}
    assert set(traces) == {"0", "1", "2", "3", "broken"}
    failure = traces["broken"].failure
    assert failure is not None
    assert (failure.kind, failure.stage) == ("ImageError", "image")


def test_leaving_ask_many_early_cancels_the_rest(photo: Path) -> None:
    model = StuckAfter(2)
    samples = [make_sample(photo, "What?", options=["x", "y"], id=str(k)) for k in range(6)]
    traces = P2R(model, mode="direct").ask_many(samples, num_at_once=3)
    next(traces)
    next(traces)
    traces.close()
    assert model.num_waiting == model.num_cancelled


def test_ask_many_raises_what_the_samples_raise(photo: Path, model: ScriptedModel) -> None:
    def draw() -> Iterator[Sample]:
        yield make_sample(photo, "What?", options=["x", "y"])
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        list(P2R(model).ask_many(draw()))


async def test_ask_many_async_yields_every_trace(photo: Path, model: ScriptedModel) -> None:
    samples = [make_sample(photo, "What?", options=["x", "y"], id=str(k)) for k in range(3)]
    assert {trace.sample_id async for trace in P2R(model).ask_many_async(samples)} == {"0", "1", "2"}


def test_blocking_calls_from_several_threads_do_not_disturb_each_other(photo: Path, model: ScriptedModel) -> None:
    asker, answers = P2R(model), list[str | None]()

    def ask() -> None:
        answer = asker.ask(photo, "What?", options=["x", "y"]).answer
        answers.append(answer.letter if answer else None)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["A"] * 4


def test_a_recorded_failure_comes_back_as_its_error() -> None:
    failure = Failure(stage="reason", kind="EndpointError", message="gone", hint="start it")
    error = revive(failure)
    assert type(error) is EndpointError
    assert (error.message, error.hint) == ("gone", "start it")
    assert type(revive(failure.model_copy(update={"kind": "os"}))) is P2RError


def test_the_public_names_are_there_and_torch_is_not_needed() -> None:
    assert {name: getattr(p2r, name) is not None for name in p2r.__all__} == dict.fromkeys(p2r.__all__, True)
    assert set(p2r.__all__) <= set(dir(p2r))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = p2r.nonsense


def test_notebooks_learn_to_show_traces(monkeypatch: pytest.MonkeyPatch, model: ScriptedModel) -> None:
    known: dict[type, Any] = {}
    html = SimpleNamespace(for_type=known.__setitem__)
    shell = SimpleNamespace(display_formatter=SimpleNamespace(formatters={"text/html": html}))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    trace = P2R(model).ask(Image.new("RGB", (64, 64)), "Is <b> shown?", options=["x", "y"])
    assert "Is &lt;b&gt; shown?" in known[Trace](trace)


def test_a_trace_shows_an_image_in_memory_while_somebody_keeps_it(model: ScriptedModel) -> None:
    image = Image.new("RGB", (320, 240), "navy")
    asker = P2R(model)
    trace = asker.ask(image, "What is on the sail?", options=["a star", "a fish"])
    asker.ask(Image.new("RGB", (64, 64)), "And there?", options=["x", "y"])
    assert "data:image/" in p2r.show(trace).html
    alive = weakref.ref(image)
    del image
    gc.collect()
    assert alive() is None, "a trace keeps no image alive"
    assert "was not found: pass it as show(trace, image=...)" in p2r.show(trace).html
    assert Trace.model_validate_json(trace.model_dump_json()) == trace


def test_an_image_that_nobody_keeps_is_shown_until_the_next_question(model: ScriptedModel) -> None:
    asker = P2R(model)
    trace = asker.ask(Image.new("RGB", (320, 240)), "What?", options=["x", "y"])
    run_blocking(asyncio.sleep(0))  # the loop lets go of what it did before
    gc.collect()
    assert "data:image/" in p2r.show(trace).html


def test_a_trace_that_is_gone_leaves_nothing_behind(model: ScriptedModel, photo: Path) -> None:
    before = len(remember._images)
    asker = P2R(model)
    trace = asker.ask(Image.open(photo), "What?", options=["x", "y"])
    assert len(remember._images) == before + 1
    del trace
    gc.collect()
    assert len(remember._images) == before


class MyImage:
    """An image source that is not of this package."""

    uri = "mine"

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Image.Image:
        return Image.open(self.path)


class StuckAfter:
    """Replies `count` times; later calls wait for ever, and count when they are cancelled."""

    name = "stuck"

    def __init__(self, count: int) -> None:
        self.left, self.num_waiting, self.num_cancelled = count, 0, 0

    @property
    def profile(self) -> ModelProfile:
        return ScriptedModel({}).profile

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        if self.left > 0:
            self.left -= 1
            return Completion(text="A", finish_reason="stop", model=self.name)
        self.num_waiting += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        raise AssertionError


def test_a_frame_is_that_of_the_model_that_says_where_to_look(
    photo: Path, model: ScriptedModel, tmp_path: Path
) -> None:
    script = tmp_path / "replies.json"
    script.write_text(
        json.dumps({"perceiver": '[{"bbox_2d": [0.1, 0.2, 0.3, 0.4]}]', "reasoner": "<answer>A</answer>"})
    )
    for asked in (
        P2R(f"scripted:{script}", frame="unit"),
        P2R(model, perceiver_model=f"scripted:{script}", frame="unit"),
    ):
        assert [box.xyxy for box in asked.ask(photo, "What?", options=["a", "b"]).boxes] == [(100, 200, 300, 400)]
    plain = P2R(f"scripted:{script}")
    with pytest.warns(FrameWarning, match='`frame="unit"`, or its family with `family`'):
        assert plain.ask(photo, "What?", options=["a", "b"]).boxes == ()
    assert plain.fingerprint != P2R(f"scripted:{script}", frame="unit").fingerprint
    with pytest.raises(ConfigError, match="loaded already"):
        P2R(model, frame="unit")


def test_each_call_warns_once_of_a_wrong_frame(photo: Path) -> None:
    model = ScriptedModel({"perceiver": '[{"bbox_2d": [1490, 1873, 1720, 1995]}]', "reasoner": "<answer>A</answer>"})
    samples = [make_sample(photo, f"What is {number}?") for number in range(5)]
    calls = {
        "1 of 1 reply": lambda: P2R(model).ask_sample(samples[0]),
        "5 of 5 replies": lambda: list(P2R(model).ask_many(samples)),
    }
    for count, call in calls.items():
        with pytest.warns(FrameWarning, match=f"^{count} .* look like pixels of the image") as caught:
            call()
        assert len(caught) == 1
    with pytest.warns(FrameWarning, match=r"of \d repl"):
        next(iter(P2R(model).ask_many(samples, num_at_once=1)))


async def test_a_wrong_frame_is_warned_of_at_the_line_of_the_caller(photo: Path) -> None:
    model = ScriptedModel({"perceiver": '[{"bbox_2d": [1490, 1873, 1720, 1995]}]', "reasoner": "<answer>A</answer>"})
    sample = make_sample(photo, "What?")
    with pytest.warns(FrameWarning) as caught:
        P2R(model).ask(photo, "What?")
        P2R(model).ask_sample(sample)
        list(P2R(model).ask_many([sample]))
        await P2R(model).ask_async(photo, "What?")
        await P2R(model).ask_sample_async(sample)
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert [each.filename for each in caught] == [__file__] * len(caught)
    assert [lines[each.lineno - 1].strip().split("(")[0] for each in caught] == [
        *("P2R", "P2R", "list", "await P2R", "await P2R")
    ]


@pytest.mark.filterwarnings("error::p2r.errors.FrameWarning")
def test_boxes_that_fit_are_not_warned_of(photo: Path, model: ScriptedModel) -> None:
    assert P2R(model).ask(photo, "What?").boxes
    assert all(trace.boxes for trace in P2R(model).ask_many([make_sample(photo, "What?")]))
    assert P2R(ScriptedModel({"reasoner": "<answer>A</answer>"}), mode="direct").ask(photo, "What?").answer


@pytest.mark.parametrize("given", [["photo.png"], "photo.png", None, [None]])
def test_what_is_not_a_sample_is_refused_in_a_sentence(given: object, model: ScriptedModel) -> None:
    with pytest.raises(ConfigError, match=r"not a (list of )?sample") as caught:
        list(P2R(model).ask_many(given))  # type: ignore[arg-type]
    assert "make_sample(image, question)" in caught.value.hint


def test_a_path_is_not_a_sample(model: ScriptedModel) -> None:
    with pytest.raises(ConfigError, match=r"'photo\.png' is not a sample"):
        P2R(model).ask_sample("photo.png")  # type: ignore[arg-type]


def test_one_sample_is_not_a_list_of_samples(model: ScriptedModel, photo: Path) -> None:
    with pytest.raises(ConfigError, match="not a list of samples"):
        list(P2R(model).ask_many(make_sample(photo, "What?")))  # type: ignore[arg-type]


def test_each_role_may_have_a_limit_of_its_own(photo: Path, model: ScriptedModel) -> None:
    limits: dict[str, int] = {}

    class Noting:
        name, profile = model.name, model.profile

        async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
            limits[prompt.role] = decoding.max_new_tokens
            return await model.complete(prompt, decoding)

    limited = P2R(Noting(), perceiver_new_tokens=77, reasoner_new_tokens=99)
    limited.ask(photo, "What is on the sail?", options=["a star", "a fish"])
    assert limits == {"perceiver": 77, "reasoner": 99}
    assert limited.fingerprint != P2R(model).fingerprint
    with pytest.raises(ConfigError, match="`reasoner_new_tokens` is 0"):
        P2R(model, reasoner_new_tokens=0)
    with pytest.raises(ConfigError, match="`profile` is 'nano', but nano-base is not a server's URL"):
        P2R("nano-base", profile="nano")


def test_a_server_that_does_both_has_one_profile(caplog: pytest.LogCaptureFixture) -> None:
    url = "http://127.0.0.1:9/v1#mine"
    P2R(url, perceiver_model=url, profile="nano")
    assert "unknown model family" not in caplog.text
    with pytest.raises(ConfigError, match="in which frame mine2 writes boxes, because its name tells no family"):
        P2R(url, perceiver_model=f"{url}2", profile="nano")
    assert "unknown model family of 'mine2'" in caplog.text
    assert P2R(url, perceiver_model=f"{url}2", profile="nano", frame="unit")
    assert P2R(f"{url}2", mode="direct")
