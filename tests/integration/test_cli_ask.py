"""`p2r ask` as users meet it: what it prints, what it writes, and what it says about every kind of bad input."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from p2r.api import make_sample
from p2r.cli.app import app
from p2r.models.known import KNOWN
from p2r.models.nano import CHECKPOINT as NANO
from p2r.models.scripted import ScriptedModel
from p2r.runs.store import TraceStore, read_traces
from p2r.types import Trace
from tests.fakes.chat_server import chat_reply, error_reply, serve
from tests.fakes.endpoint_server import completion
from tests.fakes.endpoint_server import serve as serve_chats
from tests.fakes.processes import heed_ctrl_c
from tests.fakes.web_server import Page, serve_pages

BOXES = '[{"bbox_2d": [100, 200, 300, 400], "label": "sail"}, {"bbox_2d": [500, 500, 600, 650], "label": "mast"}]'
CASES = Path(__file__).parents[1] / "golden" / "cases" / "ask"
REPLY = "<think>On the sail there is a star.</think><answer>A</answer>"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a photo and a scripted model in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Image.new("RGB", (800, 600), "navy").save("photo.png")
    Path("replies.json").write_text(json.dumps({"perceiver": BOXES, "reasoner": REPLY}))
    return tmp_path


@pytest.fixture
def images(here: Path) -> Path:
    folder = here / "images"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "c.webp"):
        Image.new("RGB", (64, 48)).save(folder / name)
    (folder / "notes.txt").write_text("not looked at")
    return folder


def ask(*arguments: str, model: str = "scripted:replies.json") -> Result:
    return CliRunner().invoke(app, ["ask", *arguments, "--model", model])


def assert_refused(result: Result, *parts: str, code: int = 1) -> None:
    """One sentence with a hint, the right exit code, and no traceback."""
    assert result.exit_code == code, result.output
    assert re.search("^error: ", result.stderr, re.MULTILINE)
    assert "hint: " in result.stderr
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.stderr


# --- what it prints and writes


def test_it_prints_the_answer_the_evidence_in_pixels_and_the_cost(here: Path) -> None:
    result = ask("photo.png", "What is on the sail?", "--options", "a star, a fish")
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0] == "answer     A. a star"
    assert lines[1] == "looked at  x 80-240, y 120-240 px  sail  (crop 1)"
    assert lines[2] == "           x 400-480, y 300-390 px  mast  (crop 2)"
    assert lines[3].startswith("cost       1,086 visual tokens (475 | 475 + 80 + 56), ")
    assert lines[4] == f"reply      {REPLY}"


def test_a_sample_is_made_once_and_a_checkpoint_is_read_once(here: Path) -> None:
    with (
        mock.patch("p2r.cli.ask.make_sample", side_effect=make_sample) as make_here,
        mock.patch("p2r.api.make_sample", side_effect=make_sample) as make_there,
        mock.patch.object(Path, "read_text", autospec=True, side_effect=Path.read_text) as read,
    ):
        result = ask("photo.png", "What is on the sail?", "--options", "a star, a fish", model="nano")
    assert result.exit_code == 0, result.output
    assert (make_here.call_count, make_there.call_count) == (1, 0)
    names = [path.name for path in (call.args[0] for call in read.call_args_list) if NANO in path.parents]
    names = sorted(name for name in names if name.endswith(".json"))
    assert names == ["config.json", "generation_config.json", "preprocessor_config.json"]


def test_options_may_be_repeated_when_they_hold_commas(here: Path) -> None:
    result = ask("photo.png", "Where?", "--option", "left, above", "--option", "right, below")
    assert "answer     A. left, above" in result.stdout


def test_json_prints_the_whole_trace(here: Path) -> None:
    result = ask("photo.png", "What?", "--options", "x,y", "--json")
    trace = Trace.model_validate_json(result.stdout)
    assert trace.answer is not None
    assert trace.answer.letter == "A"
    assert trace.image == "photo.png"


def test_save_writes_the_annotated_image_the_crops_and_the_trace(here: Path) -> None:
    result = ask("photo.png", "What?", "--options", "x,y", "--save", "out")
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "annotated.png",
        "asked.json",
        "crop_1.png",
        "crop_2.png",
        "trace.json",
    ]
    assert "saved out/annotated.png" in result.stderr


def test_direct_mode_says_that_it_looked_once(here: Path) -> None:
    result = ask("photo.png", "What?", "--options", "x,y", "--mode", "direct")
    assert "looked at  the whole image, once" in result.stdout


def test_another_model_may_say_where_to_look(here: Path) -> None:
    Path("looker.json").write_text(json.dumps({"perceiver": "[]"}))
    result = ask("photo.png", "What?", "--options", "x,y", "--perceiver-model", "scripted:looker.json")
    assert "looked at  the whole image: no boxes (" in result.stdout


def test_a_reply_that_holds_no_answer_is_shown_as_it_is(here: Path) -> None:
    Path("replies.json").write_text(json.dumps({"perceiver": "[]", "reasoner": "I would rather not say."}))
    result = ask("photo.png", "What?", "--options", "x,y")
    assert result.exit_code == 0
    assert "answer     no answer" in result.stdout
    assert "reply      I would rather not say." in result.stdout


# --- images that work


def test_a_image_of_one_pixel_works(here: Path) -> None:
    Image.new("RGB", (1, 1)).save("dot.png")
    assert ask("dot.png", "What?", "--options", "x,y", "--save", "out").exit_code == 0


@pytest.mark.parametrize("mode", ["I;16", "CMYK", "P", "RGBA", "LA", "1", "L"])
def test_every_pixel_format_works(here: Path, mode: str) -> None:
    name = "photo.tiff" if mode == "CMYK" else "photo2.png"
    Image.new(mode, (64, 48)).save(name)
    assert ask(name, "What?", "--options", "x,y").exit_code == 0


def test_the_first_frame_of_an_animation_is_asked_about(here: Path) -> None:
    frames = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    assert ask("moving.gif", "What?", "--options", "x,y").exit_code == 0


def test_a_photo_on_its_side_is_turned_upright(here: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save("phone.jpg", exif=exif)
    trace = Trace.model_validate_json(ask("phone.jpg", "What?", "--options", "x,y", "--json").stdout)
    assert trace.evidence is not None
    assert trace.evidence.image_wh == (40, 80)


@pytest.mark.slow
def test_a_image_of_20000_by_20000_pixels_works(here: Path) -> None:
    Image.new("1", (20_000, 20_000)).save("huge.png")
    result = ask("huge.png", "What?", "--options", "x,y", "--json")
    assert result.exit_code == 0, result.output
    trace = Trace.model_validate_json(result.stdout)
    assert trace.evidence is not None
    assert trace.evidence.image_wh == (20_000, 20_000)


# --- images that do not


def test_a_missing_file_is_named(here: Path) -> None:
    assert_refused(ask("nowhere.jpg", "What?"), "there is no file nowhere.jpg")


def test_a_file_that_is_not_an_image_is_named(here: Path) -> None:
    Path("notes.jpg").write_text("not an image at all")
    assert_refused(ask("notes.jpg", "What?"), "notes.jpg is not an image")


def test_a_truncated_image_is_named(here: Path) -> None:
    Image.effect_noise((300, 300), 50).save("cut.jpg")
    Path("cut.jpg").write_bytes(Path("cut.jpg").read_bytes()[:3000])
    assert_refused(ask("cut.jpg", "What?"), "cut.jpg is broken or cut off")


def test_an_empty_file_is_named(here: Path) -> None:
    Path("empty.png").touch()
    assert_refused(ask("empty.png", "What?"), "empty.png is empty (0 bytes)")


def test_a_decompression_bomb_is_refused_with_the_limit_and_the_limit_is_adjustable(here: Path) -> None:
    Image.new("1", (3000, 2000)).save("bomb.png")
    refused = ask("bomb.png", "What?", "--max-image-pixels", "1000000")
    assert_refused(refused, "3000 x 2000", "1,000,000", "max")
    allowed = ask("bomb.png", "What?", "--options", "x,y", "--max-image-pixels", "6000000")
    assert allowed.exit_code == 0


def test_a_bomb_beyond_the_default_limit_is_refused_before_it_is_decoded(here: Path) -> None:
    Image.new("1", (30_000, 30_000)).save("bomb.png")
    assert_refused(ask("bomb.png", "What?"), "30000 x 30000", "400,000,000")


def test_a_image_that_is_too_thin_is_refused(here: Path) -> None:
    Image.new("RGB", (2010, 10)).save("thin.png")
    assert_refused(ask("thin.png", "What?"), "2010 x 10", "200 times")


# --- questions and options


def test_an_empty_question_is_refused(here: Path) -> None:
    assert_refused(ask("photo.png", "  "), "question", "empty")


def test_a_missing_question_is_a_usage_error(here: Path) -> None:
    result = ask("photo.png")
    assert result.exit_code == 2
    assert "the question is missing" in result.stderr


def test_one_option_is_refused(here: Path) -> None:
    assert_refused(ask("photo.png", "What?", "--options", "a star"), "a single option", "two or more")


def test_thirty_options_are_refused(here: Path) -> None:
    listed = ",".join(f"option {number}" for number in range(30))
    assert_refused(ask("photo.png", "What?", "--options", listed), "30 options", "26")


def test_duplicate_options_are_refused(here: Path) -> None:
    assert_refused(ask("photo.png", "What?", "--options", "star,fish,star"), "'star'", "more than once")


def test_an_empty_option_is_refused(here: Path) -> None:
    assert_refused(ask("photo.png", "What?", "--options", "star,,fish"), "option B", "is empty")


def test_options_with_a_number_as_answer_form_are_refused(here: Path) -> None:
    assert_refused(ask("photo.png", "How many?", "--options", "1,2", "--answer-form", "number"), "does not go with")


def test_an_unknown_prompt_set_is_refused(here: Path) -> None:
    assert_refused(ask("photo.png", "What?", "--prompts", "poetry"), "'poetry'", "release")


def test_an_unknown_mode_is_a_usage_error(here: Path) -> None:
    assert ask("photo.png", "What?", "--mode", "guess").exit_code == 2


# --- models and servers


def test_an_unknown_model_is_refused(here: Path) -> None:
    assert_refused(ask("photo.png", "What?", model="gpt-77"), "unknown model 'gpt-77'", "nano")


def test_a_folder_that_is_no_checkpoint_is_refused(here: Path) -> None:
    Path("empty").mkdir()
    result = ask("photo.png", "What?", model="./empty")
    assert result.exit_code == 1
    assert "config.json" in result.stderr


def test_a_hub_that_cannot_be_reached_is_said_so(here: Path) -> None:
    environment = {
        **os.environ,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(here / "cache"),
        "HF_HUB_OFFLINE": "0",
    }
    command = [sys.executable, "-m", "p2r", "ask", "photo.png", "What?", "--model", "nobody/nothing"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr
    assert "error: " in done.stderr
    assert "nobody/nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_answers(here: Path) -> None:
    with serve(lambda text, number: chat_reply(BOXES if "Locate" in text else REPLY)) as url:
        result = ask("photo.png", "What?", "--options", "a star,a fish", "--frame", "per_mille", model=f"{url}#stub")
    assert result.exit_code == 0, result.output
    assert "answer     A. a star" in result.stdout
    assert "14 generated" in result.stdout


def test_a_server_that_is_down_is_said_so(here: Path) -> None:
    assert_refused(ask("photo.png", "What?", model="http://127.0.0.1:9/v1#qwen3-vl-stub"), "127.0.0.1:9")


def test_a_wrong_path_on_a_server_is_said_so(here: Path) -> None:
    with serve(lambda text, number: chat_reply(REPLY)) as url:
        assert_refused(ask("photo.png", "What?", model=f"{url}/wrong#qwen3-vl-stub"), "/wrong")


def test_a_slow_server_is_given_up_after_the_timeout(here: Path) -> None:
    waiting = threading.Event()

    def respond(text: str, number: int) -> tuple[int, str]:
        waiting.wait(20)
        return chat_reply(REPLY)

    with serve(respond) as url:
        result = ask("photo.png", "What?", "--timeout-s", "0.2", model=f"{url}#qwen3-vl-stub")
        waiting.set()
    assert_refused(result, "0.2 s")


@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_keeps_refusing_is_said_so(here: Path, status: int) -> None:
    with serve(lambda text, number: error_reply(status, "not now")) as url:
        assert_refused(ask("photo.png", "What?", model=f"{url}#qwen3-vl-stub"), str(status))


def test_malformed_json_from_a_server_is_said_so(here: Path) -> None:
    with serve(lambda text, number: (200, '{"choices": [')) as url:
        result = ask("photo.png", "What?", model=f"{url}#qwen3-vl-stub")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")


def test_a_name_that_tells_no_frame_of_boxes_is_refused_before_it_is_asked(here: Path) -> None:
    with serve(lambda text, number: chat_reply("<answer>A</answer>")) as url:
        model, question = f"{url}#internvl3", ["photo.png", "What?", "--options", "a star,a fish"]
        refused = ask(*question, model=model)
        assert refused.exit_code == 1
        assert "in which frame internvl3 writes boxes" in refused.stderr
        assert "hint: state its --frame, or its --family, or what it is with --profile" in refused.stderr
        assert ask(*question, "--frame", "per_mille", model=model).exit_code == 0
        direct = ask(*question, "--mode", "direct", model=model)
    assert direct.exit_code == 0 and direct.stderr.startswith("warning: unknown model family of 'internvl3'")
    assert "state what it is by --profile, or its --family\n" in direct.stderr


def test_a_server_whose_model_cannot_see_is_said_so(here: Path) -> None:
    message = "stub is not a multimodal model"
    with serve(lambda text, number: error_reply(400, message)) as url:
        assert_refused(ask("photo.png", "What?", model=f"{url}#qwen3-vl-stub"), "stub")


# --- saving


def test_a_full_disk_on_save_is_said_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", fail)
    result = ask("photo.png", "What?", "--options", "x,y", "--save", "out")
    assert result.exit_code == 1
    assert "answer     A. x" in result.stdout
    assert "error: out cannot be written: no space left on device\nhint: " in result.stderr


def test_a_full_disk_in_a_batch_is_said_so_and_stops_it(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk, stack = Path("/dev/full"), ExitStack()

    def enter_with_a_full_disk(store: TraceStore) -> TraceStore:
        monkeypatch.setattr(store._log, "_file", stack.enter_context(full_disk.open("ab")))
        return store

    with monkeypatch.context() as patch:
        patch.setattr(TraceStore, "__enter__", enter_with_a_full_disk)
        result = ask("images", "What?", "--options", "x,y")
    with suppress(OSError):
        stack.close()
    assert_refused(result, "runs/images/traces.jsonl cannot be written: no space left on device")
    assert ask("images", "What?", "--options", "x,y").exit_code == 0


# --- many questions


def test_a_folder_asks_the_same_of_every_image(images: Path) -> None:
    result = ask("images", "What?", "--options", "x,y")
    assert result.exit_code == 0, result.output
    assert sorted(result.stdout.splitlines()) == ["a.png\tA. x", "b.jpg\tA. x", "c.webp\tA. x"]
    assert "3 answered, 0 failed: runs/images/traces.jsonl" in result.stderr
    assert len(read_traces(Path("runs/images/traces.jsonl"))) == 3


def test_a_folder_without_images_is_refused(here: Path) -> None:
    Path("bare").mkdir()
    assert_refused(ask("bare", "What?"), "holds no images")


def write_rows(*rows: dict[str, object]) -> None:
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_file_of_questions_is_asked_and_judged(images: Path) -> None:
    write_rows(
        {"image": "images/a.png", "question": "What?", "options": ["x", "y"], "target": "A", "id": "first"},
        {"image": "images/b.jpg", "question": "Who?", "options": ["x", "y"], "target": "y", "id": 2},
        {"image": "images/c.webp", "question": "Where?", "answer_form": "free_form"},
    )
    result = ask("questions.jsonl", "--save", "out")
    assert result.exit_code == 0, result.output
    assert sorted(result.stdout.splitlines()) == ["2\tA. x\twrong", "3\tA", "first\tA. x\tright"]
    assert "accuracy 50.0% (1 of 2 with a target; 95% interval 9.5% to 90.5%)" in result.stderr


def test_paths_in_a_file_of_questions_are_relative_to_it(images: Path) -> None:
    rows = images / "rows.jsonl"
    rows.write_text('{"image": "a.png", "question": "What?"}\n\n')
    assert ask("images/rows.jsonl").exit_code == 0


def test_a_batch_prints_traces_as_json_lines(images: Path) -> None:
    result = ask("images", "What?", "--options", "x,y", "--json")
    traces = [Trace.model_validate_json(line) for line in result.stdout.splitlines()]
    assert {trace.sample_id for trace in traces} == {"a.png", "b.jpg", "c.webp"}


def test_a_batch_goes_on_past_failures_and_exits_with_their_count(images: Path) -> None:
    (images / "d.png").touch()
    result = ask("images", "What?", "--options", "x,y")
    assert result.exit_code == 1
    assert "d.png\tfailed: images/d.png is empty (0 bytes)" in result.stdout
    assert "error: 1 of 4 questions failed" in result.stderr


def test_a_saved_batch_has_the_images_of_every_question(images: Path) -> None:
    write_rows(
        {"image": "images/a.png", "question": "What?", "options": ["x", "y"], "id": "../up"},
        {"image": "images/b.jpg", "question": "Who?", "options": ["x", "y"]},
        {"image": "gone.png", "question": "Where?"},
    )
    assert ask("questions.jsonl", "--save", "out").exit_code == 1
    folders = sorted(Path("out/images").iterdir())
    assert [folder.name.partition("-")[0] for folder in folders] == ["2", "_up"]
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {"annotated.png", "crop_1.png", "crop_2.png", "trace.json"}


def test_images_that_a_kill_left_out_are_saved_by_the_next_run(images: Path) -> None:
    ask("images", "What?", "--options", "x,y", "--save", "out")
    Path("out/images/a.png/trace.json").unlink()
    (images / "b.jpg").unlink()
    result = ask("images", "What?", "--options", "x,y", "--save", "out")
    assert result.exit_code == 0, result.output
    assert Path("out/images/a.png/trace.json").exists()


def test_a_batch_without_save_writes_no_images(images: Path) -> None:
    ask("images", "What?", "--options", "x,y")
    assert not Path("runs/images/images").exists()


def test_a_pixel_limit_holds_for_a_script_too(here: Path) -> None:
    result = ask("photo.png", "What?", "--options", "x,y", "--max-pixels", "65536")
    assert "visual tokens (54 | 54 + 54 + 56)" in result.stdout


def test_a_second_run_asks_only_what_failed(images: Path) -> None:
    (images / "d.png").touch()
    ask("images", "What?", "--options", "x,y")
    Image.new("RGB", (64, 48)).save(images / "d.png")
    result = ask("images", "What?", "--options", "x,y")
    assert result.exit_code == 0
    assert result.stdout == "d.png\tA. x\n"
    assert "3 of 4 are answered already" in result.stderr
    assert len(read_traces(Path("runs/images/traces.jsonl"))) == 4


def test_a_run_with_another_mode_in_the_same_folder_is_refused(images: Path) -> None:
    ask("images", "What?", "--options", "x,y")
    result = ask("images", "What?", "--options", "x,y", "--mode", "direct")
    assert_refused(result, "mode was p2r, now direct", "give another --save, or remove that folder")


def test_another_file_of_questions_in_the_same_folder_is_refused(images: Path) -> None:
    def write(name: str, *questions: str) -> None:
        rows = [{"image": "images/a.png", "question": question, "options": ["x", "y"]} for question in questions]
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("one.jsonl", "What?", "Where?")
    assert ask("one.jsonl", "--save", "kept").exit_code == 0
    write("two.jsonl", "Who?")
    before = Path("kept/traces.jsonl").read_bytes()
    result = ask("two.jsonl", "--save", "kept")
    assert_refused(
        result, f"kept holds the answers to {Path('one.jsonl').resolve()}, not to", "give another --save, or"
    )
    assert "two.jsonl" in result.stderr and Path("kept/traces.jsonl").read_bytes() == before
    Path("one.jsonl").rename("moved.jsonl")  # the same questions from elsewhere, and one more
    write("moved.jsonl", "What?", "Where?", "Who?")
    assert "2 of 3 are answered already" in ask("moved.jsonl", "--save", "kept").stderr
    write("moved.jsonl", "What?", "Which one?")  # the same file, mended
    assert ask("moved.jsonl", "--save", "kept").exit_code == 0


def test_another_question_about_images_in_the_same_folder_is_refused(images: Path) -> None:
    ask("images", "What?", "--options", "x,y", "--save", "kept")
    result = ask("images", "Where?", "--options", "x,y", "--save", "kept")
    assert_refused(result, "images 'What?', not to ", "give another --save, or remove that folder")
    assert ask("images/a.png", "Where?", "--options", "x,y", "--save", "kept").exit_code == 0  # a single one beside it
    assert_refused(ask("images", "Where?", "--options", "x,y", "--save", "kept"), "not to", "give another --save")


def test_the_folder_of_a_training_run_is_refused(images: Path) -> None:
    Path("kept").mkdir()
    Path("kept/recipe.json").write_text("{}")
    result = ask("images", "What?", "--options", "x,y", "--save", "kept")
    assert_refused(result, "kept holds a training run", "give another --save, or remove that folder")
    assert [path.name for path in Path("kept").iterdir()] == ["recipe.json"]


def test_each_question_about_images_has_a_folder_of_its_own(images: Path) -> None:
    for question, folder in (("What?", "images"), ("Where?", "images-2"), ("What?", "images"), ("Who?", "images-3")):
        result = ask("images", question, "--options", "x,y")
        assert result.exit_code == 0 and f"runs/{folder}/traces.jsonl" in result.stderr
    assert "are answered already" in ask("images", "Where?", "--options", "x,y").stderr


def test_edited_prompts_in_the_same_folder_are_noticed(images: Path) -> None:
    Path("mine").mkdir()
    Path("mine/base.txt").write_text("release")
    ask("images", "What?", "--options", "x,y", "--prompts", "mine")
    Path("mine/system.txt").write_text("You are terse.")
    result = ask("images", "What?", "--options", "x,y", "--prompts", "mine")
    assert_refused(result, "the prompts are worded otherwise")


def test_ctrl_c_in_a_batch_keeps_finished_rows_and_the_same_command_goes_on(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, num_written = TraceStore.append, 0

    def append_then_interrupt(store: TraceStore, trace: Trace) -> None:
        nonlocal num_written
        append(store, trace)
        num_written += 1
        if num_written == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TraceStore, "append", append_then_interrupt)
        result = ask("images", "What?", "--options", "x,y")
    assert_refused(result, "interrupted; 2 of 3 answers are kept in runs/images/traces.jsonl", code=130)
    again = ask("images", "What?", "--options", "x,y")
    assert again.exit_code == 0
    assert len(again.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("sign", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "asked to end by SIGTERM")],
)
def test_a_real_signal_ends_the_command_at_once(images: Path, sign: signal.Signals, code: int, said: str) -> None:
    never = threading.Event()

    def respond(text: str, number: int) -> tuple[int, str]:
        if number > 2:
            never.wait(300)
        return chat_reply(REPLY)

    with serve(respond) as url:
        command = [sys.executable, "-m", "p2r", "ask", "images", "What?", "--options", "x,y", "--mode", "direct"]
        command += ["--model", f"{url}#stub", "--frame", "per_mille", "--num-at-once", "1"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
        )
        assert process.stdout is not None
        for _ in range(2):
            process.stdout.readline()
        process.send_signal(sign)
        _, errors = process.communicate(timeout=120)
        never.set()
    assert process.returncode == code, errors
    assert f"error: {said}; 2 of 3 answers are kept" in errors and "hint: the same command resumes" in errors
    assert len(read_traces(Path("runs/images/traces.jsonl"))) == 2


def test_a_line_cut_short_by_a_kill_is_asked_again(images: Path) -> None:
    ask("images", "What?", "--options", "x,y")
    path = Path("runs/images/traces.jsonl")
    path.write_bytes(path.read_bytes()[:-30])
    result = ask("images", "What?", "--options", "x,y")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert len(read_traces(path)) == 3


def test_rows_are_checked_before_anything_is_asked(here: Path) -> None:
    write_rows({"image": "photo.png", "question": "What?"}, {"image": "photo.png", "query": "What?"})
    assert_refused(
        ask("questions.jsonl"),
        "questions.jsonl, line 2: field 'query': it is not a known name",
        "a row has the fields image",
    )
    write_rows({"image": "photo.png", "question": "What?", "options": 3})
    assert_refused(ask("questions.jsonl"), "questions.jsonl, line 1: field 'options': 3 is not a list of options")
    write_rows({"image": "photo.png", "question": "What?", "target": []})
    assert_refused(ask("questions.jsonl"), "questions.jsonl, line 1: field 'target': [] is not a text or a number")
    Path("questions.jsonl").write_text("{broken\n")
    assert_refused(ask("questions.jsonl"), "questions.jsonl, line 1")
    write_rows({"image": "photo.png", "question": "What?", "options": ["x"]})
    assert_refused(ask("questions.jsonl"), "questions.jsonl, line 1: field 'options': 1 option; a choice")
    write_rows({"image": "photo.png", "question": "What?", "options": ["x", "y"], "target": "z"})
    assert_refused(ask("questions.jsonl"), "questions.jsonl, line 1", "the target 'z'")
    write_rows({"image": "a", "question": "?", "id": 1}, {"image": "b", "question": "?", "id": "1"})
    assert_refused(ask("questions.jsonl"), "questions.jsonl, line 2", "used before")
    Path("questions.jsonl").write_text("\n")
    assert_refused(ask("questions.jsonl"), "holds no questions")


def test_a_missing_file_of_questions_is_named(here: Path) -> None:
    assert_refused(ask("nowhere.jsonl"), "there is no file or folder nowhere.jsonl")


def test_a_file_of_questions_with_a_question_is_a_usage_error(here: Path) -> None:
    write_rows({"image": "photo.png", "question": "What?"})
    result = ask("questions.jsonl", "What?")
    assert result.exit_code == 2
    assert "has its own questions" in result.stderr


# --- images from elsewhere


def test_several_images_patterns_and_addresses_are_one_batch(images: Path) -> None:
    with serve_pages({"/d.png": Page(Path("photo.png").read_bytes())}) as server:
        result = ask("images/a.png", "images/*.jpg", f"{server.url}/d.png", "What?", "--options", "x,y")
        assert result.exit_code == 0, result.output
        ids = {line.partition("\t")[0] for line in result.stdout.splitlines()}
        assert ids == {"images/a.png", "images/b.jpg", f"{server.url}/d.png"}
        assert "3 answered, 0 failed: runs/images/traces.jsonl" in result.stderr
        alone = ask(f"{server.url}/d.png", "What?", "--options", "x,y", "--json")
        assert Trace.model_validate_json(alone.stdout).image == f"{server.url}/d.png"
        gone = ask(f"{server.url}/gone.png", "What?")
    assert_refused(gone, "cannot be fetched: its server replied 404")


def test_an_image_may_be_piped_in(here: Path) -> None:
    command = ["ask", "-", "What?", "--options", "x,y", "--model", "scripted:replies.json"]
    piped = CliRunner().invoke(app, command, input=Path("photo.png").read_bytes())
    assert piped.stdout.startswith("answer     A. x"), piped.output
    assert_refused(CliRunner().invoke(app, command, input=b""), "stdin is empty")


def test_questions_may_be_piped_in(here: Path) -> None:
    rows = b'{"image": "photo.png", "question": "What?", "options": ["x", "y"]}'
    piped = CliRunner().invoke(app, ["ask", "-", "--model", "scripted:replies.json"], input=rows)
    assert piped.stdout == "1\tA. x\n", piped.output
    wide = CliRunner().invoke(
        app, ["ask", "-", "--model", "scripted:replies.json"], input=rows.decode().encode("utf-16")
    )
    assert wide.stdout == "" and "1 of 1 are answered already" in wide.stderr, wide.output


@pytest.mark.parametrize("cut", [3, 12, -4])
def test_packed_questions_that_are_cut_off_in_a_pipe_are_refused(here: Path, cut: int) -> None:
    packed = gzip.compress(b'{"image": "photo.png", "question": "What?"}')[:cut]
    piped = CliRunner().invoke(app, ["ask", "-", "--model", "scripted:replies.json"], input=packed)
    assert_refused(piped, "stdin cannot be unpacked")


def test_a_phones_folder_is_asked_about_or_listed(here: Path) -> None:
    folder = here / "phone"
    shutil.copytree(CASES / "ask", folder)
    (folder / "doc.pdf").touch()
    (folder / "plan.svg").touch()
    (folder / "more").mkdir()
    Image.new("RGB", (64, 48)).save(folder / "more" / "d.png")
    result = ask("phone", "What?", "--options", "x,y")
    lines = dict(line.split("\t") for line in result.stdout.splitlines())
    assert {name for name, answer in lines.items() if answer == "A. x"} == {"IMG_1.JPG", "saved.jfif", "scan.jpe"}
    assert "Git LFS pointer" in lines["lfs.jpg"]
    assert "HEIC" in lines["IMG_2.HEIC"]
    assert "left out 2 files: .pdf 1, .svg 1; 1 folder (--recursive looks into folders)" in result.stderr
    deep = ask("phone", "What?", "--options", "x,y", "--recursive")
    assert "more/d.png\tA. x" in deep.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.glob("ask_*")))
def test_every_reported_file_of_questions_is_asked(here: Path, name: str) -> None:
    """Rows that cannot be asked fail alone; the others are answered."""
    result = ask(str(CASES / name), "--save", "out")
    assert "Traceback" not in result.output and "something went wrong" not in result.output
    expected = {
        "ask_b64.jsonl": {"1": "A", "2": "failed", "3": "A"},
        "ask_b64real.jsonl": {"1": "A"},
        "ask_dataurl.jsonl": {"1": "failed"},
        "ask_list.json": {"1": "A"},
        "ask_nul.jsonl": {"1": "failed"},
        "ask_optdict.jsonl": {"1": "A. red"},
        "ask_optlet.jsonl": {"1": "A. red"},
        "ask_optstr.jsonl": {"1": "A. red"},
        "ask_url.jsonl": {"1": "failed"},
    }[name]
    cells = [line.split("\t") for line in result.stdout.splitlines()]
    assert {id: answer.partition(":")[0] for id, answer, *_ in cells} == expected
    assert max(map(len, result.stdout.splitlines())) < 400


# --- what it says


def test_no_answer_is_counted_apart(images: Path) -> None:
    Path("replies.json").write_text(json.dumps({"perceiver": "[]", "reasoner": ["<answer>A</answer>", "Hm.", "Hm."]}))
    (images / "d.png").touch()
    result = ask("images", "What?", "--options", "x,y", "--num-at-once", "1")
    assert "1 answered, 2 without a readable answer, 1 failed: runs/images/traces.jsonl" in result.stderr
    Path("replies.json").write_text(json.dumps({"perceiver": "[]", "reasoner": "Hm."}))
    alone = ask("photo.png", "What?", "--options", "x,y")
    assert (alone.exit_code, alone.stderr) == (0, "no answer can be read from the reply\n")


def test_an_animation_says_that_its_first_frame_is_used(here: Path) -> None:
    frames = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    result = ask("moving.gif", "What?", "--options", "x,y", "--save", "out")
    assert result.stderr.count("warning: moving.gif: the first frame is used; 1 more frame left out\n") == 1


def test_a_line_of_a_batch_stays_a_line(images: Path) -> None:
    (images / "a.png").rename(images / "a\n\tb.png")
    Path("replies.json").write_text(json.dumps({"perceiver": "[]", "reasoner": "<answer>two\nlines</answer>"}))
    result = ask("images", "What?")
    assert sorted(result.stdout.splitlines())[0] == "a\\n\\tb.png\ttwo\\nlines"


def test_empty_options_are_a_usage_error(here: Path) -> None:
    result = ask("photo.png", "What?", "--options", " ")
    assert result.exit_code == 2
    assert "--options is ' ', which is empty" in result.stderr


def test_two_kinds_of_input_are_not_mixed(here: Path) -> None:
    write_rows({"image": "photo.png", "question": "What?"})
    for arguments in (["questions.jsonl", "photo.png", "What?"], ["questions.jsonl", "--options", "a,b"]):
        result = ask(*arguments)
        assert result.exit_code == 2
        assert "has its own questions" in result.stderr
    assert "the question is missing" in ask("photo.png", "photo.png").stderr


def test_nano_says_once_what_it_is_when_it_is_asked_about_photos(images: Path) -> None:
    pytest.importorskip("torch")
    result = ask("images", "Is there a person?", "--options", "yes,no", "--mode", "direct", model="nano")
    assert result.stderr.count("warning: ") == 1
    assert "warning: nano is a tiny model" in result.stderr
    assert "`p2r models`" in result.stderr


def test_ctrl_c_while_a_model_is_loaded_says_how_to_resume(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("p2r.cli.ask.load_model", interrupt)
    assert_refused(
        ask("images", "What?"), "interrupted; nothing was answered yet\nhint: the same command resumes", code=130
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_output_in_any_encoding_never_fails(images: Path, encoding: str) -> None:
    (images / "a.png").rename(images / "船 ½.png")
    Path("replies.json").write_text(json.dumps({"perceiver": "[]", "reasoner": "<answer>红色 — ¾</answer>"}))
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for arguments in (["ask", "images", "什么?"], ["ask", "images/船 ½.png", "什么?"], ["ask", "船.png", "什么?"]):
        command = [sys.executable, "-m", "p2r", *arguments, "--model", "scripted:replies.json"]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=600)
        output = done.stdout + done.stderr
        assert b"Error" not in output and b"went wrong" not in output, output
        assert (b"\\u8239" in output or b"\\u7ea2" in output) == (encoding != "utf-8")


# --- the command itself


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_printed(flag: str) -> None:
    result = CliRunner().invoke(app, [flag])
    assert (result.exit_code, result.stdout.split()[0]) == (0, "p2r")


def test_the_model_may_be_named_by_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2R_MODEL", "scripted:replies.json")
    command = ["ask", "photo.png", "What?", "--options", "x,y"]
    assert CliRunner().invoke(app, command).stdout.startswith("answer     A. x")
    assert "unknown model 'gpt-77'" in CliRunner().invoke(app, [*command, "--model", "gpt-77"]).stderr
    for name in ("ask", "eval"):
        assert "P2R_MODEL" in CliRunner().invoke(app, [name, "--help"]).stdout


def test_models_are_listed_with_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["models", "--markdown"])
    assert result.exit_code == 0, result.output
    rows = {line.split("|")[1].strip(): line for line in result.stdout.splitlines() if line.startswith("| ")}
    assert set(KNOWN) < set(rows)
    for part in ("4.4B", "8.9", "a GPU", "hongxingli/P2R-4B"):
        assert part in rows["p2r-4b"]
    assert "3.8M" in rows["nano"] and "Apache-2.0" in rows["nano"]
    assert "2 bytes a weight" in result.stdout
    monkeypatch.setattr("p2r.cli.models.find_spec", lambda name: None)
    assert "torch or transformers is not installed" in CliRunner().invoke(app, ["models"]).stdout


def test_a_batch_may_be_resumed_by_the_other_name_of_its_model(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2r.cli.ask.load_model", lambda *_, **__: ScriptedModel({"perceiver": "[]", "reasoner": "A"}))
    assert ask("images", "What?", model="p2r-4b").exit_code == 0
    again = ask("images", "What?", model="hongxingli/P2R-4B")
    assert again.exit_code == 0 and "3 of 3 are answered already" in again.stderr


def test_help_teaches_by_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    for arguments in (["--help"], ["ask", "--help"], ["demo", "--help"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        assert "p2r " in result.stdout
    assert "photos/" in CliRunner().invoke(app, ["ask", "--help"]).stdout


def test_a_bug_is_an_apology_and_a_traceback_only_on_request(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("p2r.cli.ask.load_model", fail)
    assert_refused(ask("photo.png", "What?"), "something went wrong inside p2r", "ZeroDivisionError", "P2R_DEBUG=1")
    monkeypatch.setenv("P2R_DEBUG", "1")
    assert isinstance(ask("photo.png", "What?").exception, ZeroDivisionError)


def test_ctrl_c_during_one_question_exits_with_130(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("p2r.cli.ask.load_model", interrupt)
    result = ask("photo.png", "What?")
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted\n"


# --- a page


def test_html_writes_the_evidence_page_of_one_question(here: Path) -> None:
    result = ask("photo.png", "What is on the sail?", "--options", "a star,a fish", "--html", "made/page.html")
    assert result.exit_code == 0, result.output
    assert "page: made/page.html" in result.stderr
    html = Path("made/page.html").read_text()
    assert html.count("<article") == 1 and html.count("data:image/webp") >= 3
    assert "A. a star" in html and "On the sail there is a star." in html and "https://" not in html


def test_html_writes_one_page_of_a_batch_with_what_failed(images: Path) -> None:
    (images / "d.png").touch()
    result = ask("images", "What?", "--options", "x,y", "--html", "page.html")
    assert result.exit_code == 1
    html = Path("page.html").read_text()
    assert html.count("<article") == 4
    assert "3 of 4 questions answered, 1 failed." in html and "d.png is empty (0 bytes)" in html


def test_html_after_a_resumed_batch_shows_the_old_answers_as_well(images: Path) -> None:
    assert ask("images", "What?", "--options", "x,y").exit_code == 0
    result = ask("images", "What?", "--options", "x,y", "--html", "page.html")
    assert result.exit_code == 0, result.output
    assert Path("page.html").read_text().count("<article") == 3


def test_a_page_that_is_a_folder_is_refused_before_anything_is_asked(here: Path) -> None:
    result = ask("photo.png", "What?", "--html", ".", model="scripted:nowhere.json")
    assert_refused(result, ". is a folder", "--html page.html")


@pytest.mark.parametrize("place", [["--save", "photo.png"], ["--html", "photo.png/page.html"]])
def test_a_place_that_cannot_be_written_is_refused_before_the_question(here: Path, place: list[str]) -> None:
    with mock.patch("p2r.cli.ask.load_model", side_effect=AssertionError("loaded")):
        assert_refused(ask("photo.png", "What?", *place), "photo.png is a file")


def test_a_changed_image_is_asked_again_and_only_it(images: Path) -> None:
    asked = ("images", "What?", "--options", "x,y", "--save", "out")
    ask(*asked)
    Image.new("RGB", (65, 49), "red").save(images / "a.png")
    (images / "b.jpg").unlink()
    Image.new("RGB", (64, 48)).save(images / "b.png")
    result = ask(*asked)
    assert (result.exit_code, sorted(result.stdout.splitlines())) == (0, ["a.png\tA. x", "b.png\tA. x"])
    assert "1 image has changed since the answer; asking again" in result.stderr
    assert Image.open("out/images/a.png/annotated.png").size == (65, 49)
    again = ask(*asked)
    assert again.stdout == "" and "3 of 3 are answered already" in again.stderr


def test_a_changed_image_is_noticed_in_a_file_of_questions_and_after_a_failure(images: Path) -> None:
    write_rows({"image": "images/a.png", "question": "What?"})
    ask("questions.jsonl", "--save", "out")
    (images / "a.png").write_text("broken")
    assert ask("questions.jsonl", "--save", "out").exit_code == 1
    Image.new("RGB", (64, 48)).save(images / "a.png")
    assert ask("questions.jsonl", "--save", "out").stdout.startswith("1\t")
    write_rows({"image": "images/b.jpg", "question": "What?"})
    assert "1 image has changed" in ask("questions.jsonl", "--save", "out").stderr


def test_a_run_that_is_stopped_before_a_changed_image_asks_it_the_next_time(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("images", "What?")
    Image.new("RGB", (65, 49)).save(images / "a.png")
    with monkeypatch.context() as patch:
        patch.setattr("p2r.api.P2R.ask_many", lambda *_, **__: interrupted())
        stopped = ask("images", "What?")
    assert stopped.exit_code == 130 and "2 of 3 answers are kept" in stopped.stderr
    assert ask("images", "What?").stdout.startswith("a.png\t")


def interrupted() -> Iterator[Trace]:
    raise KeyboardInterrupt
    yield


def test_asking_a_folder_three_times_does_not_ask_its_own_crops(images: Path) -> None:
    for _ in range(3):
        result = ask(".", "What?", "--recursive", "--save", "out")
        assert result.exit_code == 0, result.output
    assert "4 of 4 are answered already" in result.stderr and "saved images" in result.stderr


def test_a_question_without_quotation_marks_is_stopped_before_anything_is_asked(here: Path) -> None:
    assert_refused(ask("photo.png", "What", "is", "it"), "What, is: no such file", 'p2r ask photo.png "What is it"')
    assert not Path("runs").exists()


def test_the_environment_is_named_where_it_gave_the_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2R_MODEL", "nope")
    assert_refused(CliRunner().invoke(app, ["ask", "photo.png", "What?"]), "unknown model 'nope'", "variable P2R_MODEL")
    assert "P2R_MODEL" not in ask("photo.png", "What?", model="none").stderr


def test_a_file_of_questions_on_the_web_is_refused_by_its_address(here: Path) -> None:
    assert_refused(ask("http://host/q.csv"), "not read from the web: http://host/q.csv", "download it")


@pytest.mark.parametrize(
    ("reply", "is_number"), [("12:30", False), ("between 3 and 5", False), ("A", False), ("12", True)]
)
def test_what_is_no_number_is_no_answer_where_a_number_is_asked_for(images: Path, reply: str, is_number: bool) -> None:
    Path("replies.json").write_text(json.dumps({"perceiver": "[]", "reasoner": f"<answer>{reply}</answer>"}))
    many = ask("images", "How many?", "--answer-form", "number")
    assert ("3 without a readable answer" in many.stderr) is not is_number
    one = ask("photo.png", "How many?", "--answer-form", "number")
    assert ("no answer can be read" in one.stderr) is not is_number
    assert "without" not in ask("images", "What?", "--save", "free").stderr


def test_a_wrong_frame_is_said_once_with_the_flag(images: Path) -> None:
    boxes = '[{"bbox_2d": [1490, 1873, 1720, 1995], "label": "sail"}]'
    Path("replies.json").write_text(json.dumps({"perceiver": boxes, "reasoner": REPLY}))
    for place, count in (("photo.png", "1 of 1 reply"), (str(images), "3 of 3 replies")):
        result = ask(place, "What is on the sail?", "--options", "a star,a fish")
        assert result.stderr.count("do not fit the frame") == 1
        assert f"warning: {count} with boxes" in result.stderr and "--frame pixels" in result.stderr


def test_the_report_of_a_saved_question_is_the_page_of_the_question(here: Path) -> None:
    """It knows the budget, so that the column of one look has its image at the size that the model saw."""
    ask("photo.png", "What?", "--options", "x,y", "--max-pixels", "40000", "--save", "out", "--html", "page.html")
    assert CliRunner().invoke(app, ["report", "out", "--out", "report.html"]).exit_code == 0
    looks = [re.findall(r"one look[^<]*", Path(page).read_text()) for page in ("page.html", "report.html")]
    assert looks[0] == looks[1] and looks[0]
    assert json.loads(Path("out/asked.json").read_text())["budget"]["max_pixels"] == 40000


def test_saving_one_question_into_a_batch_keeps_its_stamps(images: Path) -> None:
    ask(str(images), "What?", "--options", "x,y", "--save", "out")
    before = json.loads(Path("out/asked.json").read_text())["stamps"]
    ask("photo.png", "What?", "--options", "x,y", "--save", "out")
    assert json.loads(Path("out/asked.json").read_text())["stamps"] == before != {}


def test_limits_and_profile_reach_the_server_and_the_folder(images: Path) -> None:
    given = ["images", "Is there a sail?", "--options", "yes,no", "--save", "out", "--profile", "nano"]
    with serve_chats(completion(BOXES)) as server:
        model = f"{server.url}#mine"
        done = ask(*given, "--perceiver-new-tokens", "77", "--reasoner-new-tokens", "99", model=model)
        assert done.exit_code == 0, done.output
        assert {call.body["max_tokens"] for call in server.chats} == {77, 99}
        again = ask(*given, "--perceiver-new-tokens", "77", model=model)
        both = ask("photo.png", "What?", "--perceiver-model", model, "--profile", "nano", model=model)
        assert both.exit_code == 0 and "unknown model family" not in both.stderr
    settings = json.loads(Path("out/run.json").read_text())
    assert (settings["perceiver_new_tokens"], settings["reasoner_new_tokens"]) == (77, 99)
    assert (settings["profile"], settings["perceiver_profile"]) == ("nano", None)
    assert again.exit_code == 1
    assert "reasoner_new_tokens was 99, now not set" in again.stderr


def test_a_profile_without_a_server_is_refused_with_the_flags_name(here: Path) -> None:
    done = ask("photo.png", "What?", "--profile", "nano")
    assert done.exit_code == 1
    assert "--profile is 'nano', but scripted:replies.json is not a server's URL" in done.stderr
    assert ask("photo.png", "What?", "--reasoner-new-tokens", "0").exit_code == 2
