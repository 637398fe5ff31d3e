"""The door from Python: what a researcher types, what comes back, and what is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import p2r
from p2r.benchmarks import Benchmark, Facts
from p2r.cli.app import app
from p2r.dialogue import Prompt
from p2r.errors import ConfigError, StorageError, TooManyErrors
from p2r.evaluation.asking import Tally
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.images.load import MemoryImage
from p2r.models.load import load_model
from p2r.models.scripted import ScriptedModel
from p2r.runs.evaluation import read_run
from p2r.runs.store import read_traces
from p2r.types import Box, Sample, Verdict
from p2r.walks import Sharing

IMAGE = MemoryImage(Image.new("RGB", (64, 64)), name="image")
BOXES = '[{"bbox_2d": [100, 100, 300, 290], "label": "x"}]'
GOLD = Box(x1=100, y1=100, x2=300, y2=300)
ANSWERS = ScriptedModel({"perceiver": BOXES, "reasoner": "<answer>A</answer>"}, name="script")


def make_benchmark(count: int = 4, **facts: object) -> Benchmark:
    samples = [
        Sample(
            id=str(k),
            image=IMAGE,
            question=f"What is {k}?",
            options=("star", "fish"),
            answer_form="choice",
            target="AB"[k % 2],
            gold_boxes=(GOLD,),
            chance=0.5,
        )
        for k in range(count)
    ]
    return Benchmark(samples, Facts("folder", **facts))  # type: ignore[arg-type]


def make_free(*targets: str) -> Benchmark:
    return Benchmark([Sample(id=t, image=IMAGE, question="?", target=t) for t in targets], Facts("folder"))


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "replies.json"
    path.write_text(json.dumps({"perceiver": BOXES, "reasoner": "<answer>A</answer>"}))
    return f"scripted:{path}"


def test_a_run_comes_back_scored_and_says_what_it_is(script: str) -> None:
    run = p2r.evaluate("needles", script, limit=6, seed=3)
    assert len(run.rows) == 6 and run.folder is None
    assert (run.settings.mode, run.settings.limit, run.settings.seed) == ("p2r", 6, 3)
    assert run.accuracy is not None
    assert run.scorecard().startswith(f"### Accuracy: needles p2r {script}\n")
    assert repr(run) == (f"<ScoredRun needles p2r {script}: 6 of 6 asked, in memory; {run.accuracy:.1%} right of 6>")
    assert run.origin is not None and (run.origin.spec, run.origin.num_samples) == ("needles", 6)
    assert len(run.sessions) == 1 and run.sessions[0].num_asked == 6


async def test_it_works_inside_a_running_event_loop() -> None:
    run = p2r.evaluate(make_benchmark(), ANSWERS)
    assert run.accuracy == 0.5
    assert score_run(run).accuracy == 0.5


def test_a_folder_is_resumed_and_read_back(tmp_path: Path) -> None:
    few = ScriptedModel({"perceiver": BOXES, "reasoner": ["<answer>A</answer>"] * 3}, name="script")
    first = p2r.evaluate(make_benchmark(), few, out=tmp_path, num_at_once=1)
    assert first.folder == tmp_path / "folder" / "p2r" and len(first.failures) == 1
    assert "1 failed" in repr(first)
    done: list[tuple[int, int]] = []
    second = p2r.evaluate(
        make_benchmark(), ANSWERS, out=tmp_path, on_progress=lambda tally: done.append((tally.num_kept, tally.num_done))
    )
    assert done == [(3, 3), (3, 4)]
    assert not second.failures and second.accuracy == 0.5
    assert second == score_run(read_run(tmp_path / "folder" / "p2r"))
    with pytest.raises(StorageError, match="limit was not set, now 2"):
        p2r.evaluate(make_benchmark(), ANSWERS, out=tmp_path, limit=2)


def test_a_run_in_memory_equals_the_one_on_disk(tmp_path: Path) -> None:
    kept = p2r.evaluate(make_benchmark(), ANSWERS, mode="random", seed=5, out=tmp_path)
    held = p2r.evaluate(make_benchmark(), ANSWERS, mode="random", seed=5)
    assert held.settings == kept.settings and held.facts == kept.facts
    assert {id: trace.boxes for id, trace in held.traces.items()} == {
        id: trace.boxes for id, trace in kept.traces.items()
    }


def test_the_command_and_the_door_write_the_same_run(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["eval", "needles", "--model", script, "--limit", "4", "--out", "command", "--max-pixels", "200704"]
    assert CliRunner().invoke(app, command).exit_code == 0
    p2r.evaluate("needles", script, limit=4, out="door", max_pixels=200704)
    model = load_model(script, max_pixels=200704)
    p2r.evaluate("needles", model, limit=4, out="loaded")
    for name in ("run.json", "samples.jsonl", "origin.json"):
        written = [(tmp_path / out / "needles/p2r" / name).read_text() for out in ("command", "door", "loaded")]
        assert written[0] == written[1] == written[2], name
    resumed = p2r.evaluate("needles", model, limit=4, out="command")
    assert len(resumed.sessions) == 1


def test_boxes_are_judged_and_no_answer_is_asked_for_where_a_benchmark_is_scored_by_boxes() -> None:
    run = p2r.evaluate(make_benchmark(1, scored_by="box"), ScriptedModel({"perceiver": BOXES}))
    (row,) = run.rows
    assert run.accuracy == 1.0 and row.trace.verdict is not None and row.trace.verdict.judge == "box@0.5"
    assert (row.trace.reasoning, row.trace.answer) == (None, None) and row.trace.evidence is not None


def test_a_judging_model_is_asked_where_the_words_of_a_free_answer_differ() -> None:
    asked: list[str] = []

    def judge(prompt: Prompt) -> str:
        asked.append(prompt.text)
        return "yes" if "boat" in prompt.text else "no"

    model = ScriptedModel({"reasoner": "<answer>The ship.</answer>", "judge": judge}, name="judge")
    run = p2r.evaluate(make_free("boat", "car", "ship"), model, mode="thinking", judge_model=model)
    assert run.settings.judge_model == "judge"
    assert len(asked) == 2 and [row.verdicts["robust"].correct for row in run.rows] == [True, False, True]
    verdicts = {id: trace.verdict for id, trace in run.traces.items()}
    assert {id: (verdict.judge, verdict.completion is not None) for id, verdict in verdicts.items() if verdict} == {
        "boat": ("model:judge", True),
        "car": ("model:judge", True),
        "ship": ("text", False),
    }


def test_a_judging_model_that_says_neither_is_a_failure_and_not_a_wrong_answer() -> None:
    model = ScriptedModel({"reasoner": "<answer>ship</answer>", "judge": "perhaps"})
    run = p2r.evaluate(make_free("boat"), model, mode="thinking", judge_model=model)
    assert run.accuracy is None and "not judged" in repr(run)
    assert "neither yes nor no" in run.failures[0].message


def test_models_that_a_mode_or_a_benchmark_does_not_need_are_not_loaded() -> None:
    run = p2r.evaluate(
        make_benchmark(), ANSWERS, mode="direct", perceiver_model="scripted:gone", judge_model="scripted:gone"
    )
    assert (run.settings.perceiver_model, run.settings.judge_model) == (None, None)


def test_the_perceiver_may_be_another_model() -> None:
    looker = ScriptedModel({"perceiver": '[{"bbox_2d": [1, 1, 9, 9], "label": "x"}]'}, name="looker")
    run = p2r.evaluate(make_benchmark(), ANSWERS, perceiver_model=looker)
    assert run.settings.perceiver_model == "looker"
    assert {box.xyxy for row in run.rows for box in row.trace.boxes} == {(1, 1, 9, 9)}


@pytest.mark.parametrize(("sharing", "num_shared"), [("same-prompt", 2), ("never", 0)])
def test_samples_that_ask_the_same_share_one_look(sharing: Sharing, num_shared: int) -> None:
    samples = [Sample(id=str(k), image=IMAGE, question="Who?", target="x") for k in range(3)]
    run = p2r.evaluate(Benchmark(samples, Facts("folder")), ANSWERS, share_perception=sharing)
    looks = [row.trace.perception.completion for row in run.rows if row.trace.perception]
    assert sum(look is not None and look.reused == "shared" for look in looks) == num_shared
    assert run.settings.share_perception is None


@pytest.mark.parametrize("setting", [{"num_at_once": 0}, {"limit": 0}, {"limit": -1}, {"share_perception": "always"}])
def test_settings_that_would_ask_nothing_or_are_not_known_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        p2r.evaluate(make_benchmark(), ANSWERS, **setting)  # type: ignore[arg-type]


def test_what_was_loaded_cannot_be_changed() -> None:
    with pytest.raises(ConfigError, match="cannot change script, which is loaded already"):
        p2r.evaluate(make_benchmark(), ANSWERS, max_pixels=200704)
    with pytest.raises(ConfigError, match="cannot change folder, which is loaded already"):
        p2r.evaluate(make_benchmark(), ANSWERS, split="test")


def test_too_many_failures_stop_it_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    model = ScriptedModel({"perceiver": BOXES, "reasoner": ["<answer>A</answer>"] * 2})
    with pytest.raises(TooManyErrors, match="18 of 20 answers failed"):
        p2r.evaluate(make_benchmark(40), model, out=tmp_path, num_at_once=1)
    kept = read_traces(tmp_path / "folder" / "p2r" / "traces.jsonl")
    assert sum(trace.failure is None for trace in kept) == 2


def test_the_bar_and_the_table_read_a_resumed_run_alike(tmp_path: Path) -> None:
    """An older version may have read a stored reply in another way; both read it as today."""
    p2r.evaluate(make_benchmark(), ANSWERS, out=tmp_path)
    path = tmp_path / "folder" / "p2r" / "traces.jsonl"
    wrong = Verdict(correct=False, score=0.0, judge="choice", reason="read by an older version")
    traces = [trace.model_copy(update={"verdict": wrong}) for trace in read_traces(path)]
    path.write_text("".join(trace.model_dump_json() + "\n" for trace in traces))
    shown: list[Tally] = []
    run = p2r.evaluate(make_benchmark(), ANSWERS, out=tmp_path, on_progress=shown.append)
    assert isinstance(run, ScoredRun)
    assert shown[-1].accuracy == run.accuracy == 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": ["direct", "p2r"]}, "there is no mode"),
        ({"model": None}, "model is None"),
        ({"perceiver_model": 3}, "perceiver_model is 3"),
        ({"judge_model": 3}, "judge_model is 3"),
        ({"limit": -1}, "limit is -1"),
        ({"limit": "3"}, "limit is '3'"),
        ({"limit": True}, "limit is True"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "0"}, "seed is '0'"),
        ({"transport": "gif"}, "no image transport 'gif'"),
        ({"max_error_rate": -0.1}, "max_error_rate is -0.1"),
        ({"max_error_rate": 1.1}, "max_error_rate is 1.1"),
        ({"max_error_rate": "0.1"}, "max_error_rate is '0.1'"),
        ({"max_error_rate": float("nan")}, "max_error_rate is nan"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(wrong: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"model": ANSWERS, **wrong}
    with pytest.raises(ConfigError, match=message):
        p2r.evaluate(make_benchmark(), **arguments)


@pytest.mark.parametrize("max_error_rate", [0, 1])
def test_a_limit_of_failures_may_be_none_or_all(max_error_rate: float) -> None:
    assert p2r.evaluate(make_benchmark(1), ANSWERS, max_error_rate=max_error_rate, limit=1).accuracy == 1.0


def test_a_folder_may_be_a_text(tmp_path: Path) -> None:
    run = p2r.evaluate(make_benchmark(), ANSWERS, out=tmp_path)
    assert read_run(str(run.folder)).folder == run.folder
    assert score_run(str(run.folder)) == run


def test_several_benchmarks_and_modes_are_asked_with_each_model_loaded_once(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(spec: str, **settings: object) -> object:
        loaded.append(spec)
        return load_model(spec, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("p2r.evaluation.evaluate.load_model", load)
    seen: list[tuple[str, int]] = []
    runs = p2r.evaluate_all(
        [make_free("A", "B"), "needles"],
        script,
        modes=["direct", "p2r", "direct"],
        perceiver_model=script,
        limit=2,
        out=tmp_path,
        on_progress=lambda prepared, tally: seen.append((prepared.name, tally.num_done)),
    )
    names = ["folder/direct", "folder/p2r", "needles/direct", "needles/p2r"]
    assert [str(run.folder) for run in runs] == [str(tmp_path / name) for name in names]
    assert list(dict.fromkeys(seen)) == [(name, k) for name in names for k in range(3)]
    assert loaded == [script]


@pytest.mark.parametrize(
    ("benchmarks", "modes", "message"),
    [
        ([make_benchmark(), make_free("A")], ["p2r"], "folder is given twice"),
        ([make_benchmark(), "folder:nowhere"], ["p2r"], "nowhere"),
        ([make_benchmark(), "needles"], ["p2r", "guess"], "there is no mode"),
        ([Benchmark(list(make_benchmark()), Facts("boxed", scored_by="box"))], ["p2r", "direct"], "perceiver's boxes"),
    ],
)
def test_all_is_checked_before_a_model_is_loaded(
    benchmarks: list[Any], modes: list[Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(spec: str, **_: object) -> None:
        pytest.fail(f"loaded {spec}")

    monkeypatch.setattr("p2r.evaluation.evaluate.load_model", load)
    with pytest.raises(p2r.P2RError, match=message):
        p2r.evaluate_all(benchmarks, "nano", modes=modes)


def test_the_benchmarks_are_shown_before_anything_is_asked() -> None:
    shown: list[str] = []
    p2r.evaluate_all(
        [make_benchmark()],
        ANSWERS,
        on_loaded=lambda found: shown.append(found.name),
        on_progress=lambda prepared, _: shown.append(prepared.settings.mode),
    )
    assert shown[:2] == ["folder", "p2r"]


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"benchmarks": "needles"}, "benchmarks is 'needles', not a list", r"benchmarks=\['needles'\]"),
        ({"benchmarks": make_benchmark()}, "benchmarks is .*, not a list", "benchmarks="),
        ({"benchmarks": None}, "benchmarks is None, not a list", "benchmarks="),
        ({"benchmarks": [["needles"]]}, r"the benchmark is .*needles.*, which is neither", "evaluate_all"),
        ({"benchmarks": [4]}, "the benchmark is 4, which is neither", "evaluate_all"),
        ({"benchmarks": ["needles"], "modes": "p2r"}, "modes is 'p2r', not a list", r"modes=\['p2r'\]"),
        ({"benchmarks": ["needles"], "modes": None}, "modes is None, not a list", "modes="),
    ],
)
def test_one_thing_where_a_list_is_due_is_refused_in_a_sentence(given: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        p2r.evaluate_all(given["benchmarks"], ANSWERS, modes=given.get("modes", ["p2r"]))
    assert re.search(hint, caught.value.hint)


def test_a_list_is_not_a_benchmark() -> None:
    with pytest.raises(ConfigError, match="which is neither the name of one nor a loaded one"):
        p2r.evaluate(["needles"], ANSWERS)  # type: ignore[arg-type]


def write_rows(path: Path, *questions: str) -> Path:
    IMAGE.load().save(path.parent / "image.png")
    rows = [{"id": str(k), "image": "image.png", "question": q, "target": "A"} for k, q in enumerate(questions)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_files_of_one_benchmark_are_both_named(tmp_path: Path) -> None:
    mine, two = write_rows(tmp_path / "mine.jsonl", "What?"), write_rows(tmp_path / "two.jsonl", "Who?")
    with pytest.raises(ConfigError, match=r"mine\.jsonl and .*two\.jsonl are both the benchmark folder") as caught:
        p2r.evaluate_all([mine, two], ANSWERS)
    assert "out" in caught.value.hint
    with pytest.raises(ConfigError, match="folder is given twice"):
        p2r.evaluate_all([mine, mine], ANSWERS)


def test_a_place_that_cannot_be_written_is_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2r.evaluation.evaluate.load_model", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "photo.png").touch()
    with pytest.raises(StorageError, match="is a file"):
        p2r.evaluate(make_benchmark(), "nano", out=tmp_path / "photo.png")


@pytest.mark.parametrize("wrong", [["--mode", "blnd"], ["--shard", "3/2"], ["--prompts", "nowhere"]])
def test_the_model_is_not_announced_before_the_arguments_are_checked(
    wrong: list[str], script: str, tmp_path: Path
) -> None:
    rows = str(write_rows(tmp_path / "mine.jsonl", "What?"))
    command = ["eval", rows, "--model", script, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, *wrong])
    assert result.exit_code != 0 and "loading" not in result.output
    assert CliRunner().invoke(app, command).output.count("loading scripted:") == 1


def test_limits_of_new_tokens_are_settings_of_a_run(tmp_path: Path) -> None:
    run = p2r.evaluate(make_benchmark(), ANSWERS, out=tmp_path, perceiver_new_tokens=77, reasoner_new_tokens=99)
    assert (run.settings.perceiver_new_tokens, run.settings.reasoner_new_tokens) == (77, 99)
    with pytest.raises(StorageError, match="reasoner_new_tokens was 99, now 9") as caught:
        p2r.evaluate(make_benchmark(), ANSWERS, out=tmp_path, perceiver_new_tokens=77, reasoner_new_tokens=9)
    assert "decoding" not in caught.value.message
    usual = p2r.evaluate(make_benchmark(), ANSWERS, perceiver_new_tokens=256, reasoner_new_tokens=1024)
    assert usual.settings == p2r.evaluate(make_benchmark(), ANSWERS).settings
    direct = p2r.evaluate(make_benchmark(), ANSWERS, mode="direct", perceiver_new_tokens=77)
    assert direct.settings.perceiver_new_tokens is None, "nobody perceives"


def test_what_cannot_be_stated_is_refused_before_anything_is_loaded(script: str) -> None:
    with pytest.raises(ConfigError, match="`perceiver_new_tokens` is 0"):
        p2r.evaluate("no such benchmark", script, perceiver_new_tokens=0)
    with pytest.raises(ConfigError, match="`profile` is 'nano', but script is not a server's URL"):
        p2r.evaluate("no such benchmark", ANSWERS, profile="nano")
    with pytest.raises(ConfigError, match="`perceiver_profile` is 'nano', but there is no such model"):
        p2r.evaluate("no such benchmark", script, perceiver_profile="nano")
    with pytest.raises(ConfigError, match="`profile` is 3, not the name of a model"):
        p2r.evaluate("no such benchmark", "http://127.0.0.1:9/v1#m", profile=3)  # type: ignore[arg-type]


def test_profiles_of_both_servers_are_settings_of_a_run() -> None:
    from p2r.evaluation.prepare import prepare

    benchmark, url = make_benchmark(), "http://127.0.0.1:9/v1#a"
    settings = prepare(benchmark, [*benchmark], url, profile="nano").settings
    assert (settings.profile, settings.perceiver_profile) == ("nano", None)
    other = f"{url}2"
    settings = prepare(
        benchmark, [*benchmark], url, perceiver_model=other, profile="nano", perceiver_profile="p2r-4b"
    ).settings
    assert (settings.profile, settings.perceiver_profile) == ("nano", "p2r-4b")
    settings = prepare(benchmark, [*benchmark], url, perceiver_model=url, profile="nano").settings
    assert (settings.profile, settings.perceiver_profile) == ("nano", "nano")
