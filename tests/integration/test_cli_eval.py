"""`p2r eval`, `score`, `compare`, `merge` and `check` from the command line, with scripted replies."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from p2r.cli.app import app
from p2r.runs.store import read_traces

BOXES = '[{"bbox_2d": [100, 100, 400, 400], "label": "it"}]'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("replies.json").write_text(json.dumps({"perceiver": BOXES, "reasoner": "<answer>A</answer>"}))
    Path("other.json").write_text(json.dumps({"perceiver": BOXES, "reasoner": "<answer>B</answer>"}))
    for k in range(2):
        Image.new("RGB", (96, 64)).save(f"{k}.png")
    write_questions()
    return tmp_path


def write_questions(**changed: object) -> None:
    rows = [
        {
            "id": f"q{k}",
            "image": f"{k % 2}.png",
            "question": f"What is number {k}?",
            "options": ["a star", "a fish"],
            "target": "AAB"[k % 3],
            "boxes": [[10, 10, 40, 30]],
            "box_frame": "pixels",
        }
        | changed
        for k in range(30)
    ]
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def p2r(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def evaluate(*arguments: str, model: str = "replies.json", out: str = "runs") -> Result:
    return p2r("eval", "folder:questions.jsonl", "--model", f"scripted:{model}", "--out", out, *arguments)


def row_of(result: Result, name: str) -> list[str]:
    return next(line.split() for line in result.stdout.splitlines() if line.split()[:1] == [name])


def test_one_mode_gives_a_table_of_scorers_with_n_chance_and_interval(here: Path) -> None:
    result = evaluate("--mode", "blind")
    assert result.exit_code == 0, result.output
    assert "Accuracy: folder blind" in result.stdout
    assert row_of(result, "overall")[:4] == ["overall", "30", "50.0%", "66.7%"]


def test_several_modes_give_one_table_with_a_row_for_each(here: Path) -> None:
    result = evaluate("--mode", "p2r", "--mode", "blind")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Accuracy: folder (robust)\n")
    assert row_of(result, "p2r") == ["p2r", "30", "50.0%", "66.7%", "48.8", "-", "80.8%"]
    assert row_of(result, "blind")[:4] == ["blind", "30", "50.0%", "66.7%"]
    assert {path.parent.name for path in here.glob("runs/folder/*/traces.jsonl")} == {"p2r", "blind"}


def test_several_benchmarks_end_with_a_table_of_all_runs(here: Path) -> None:
    result = p2r(
        *("eval", "needles", "folder:questions.jsonl", "--limit", "3", "--mode", "direct", "--mode", "p2r"),
        *("--model", "scripted:replies.json"),
    )
    assert result.exit_code == 0, result.output
    last = result.stdout[result.stdout.index("Runs, with what an answer cost") :].splitlines()
    rows = [line.split()[:3] for line in last[2:6]]
    assert [row[:2] for row in rows] == [
        ["needles", "direct"],
        ["needles", "p2r"],
        ["folder", "direct"],
        ["folder", "p2r"],
    ]
    assert [row[2] for row in rows] == ["3"] * 4


def test_the_same_command_asks_nothing_again(here: Path) -> None:
    evaluate()
    before = Path("runs/folder/p2r/traces.jsonl").read_bytes()
    result = evaluate()
    assert "30 of 30 are answered already" in result.stderr
    assert Path("runs/folder/p2r/traces.jsonl").read_bytes() == before


def test_changed_settings_are_refused_with_what_differs(here: Path) -> None:
    evaluate()
    result = evaluate("--max-pixels", "200704", model="other.json")
    assert result.exit_code == 1
    assert (
        "model was scripted:replies.json, now scripted:other.json; max_pixels was not set, now 200704" in result.stderr
    )


def test_changed_data_are_refused(here: Path) -> None:
    evaluate()
    write_questions(target="B")
    assert "holds another run: the questions, right answers or boxes are others" in evaluate().stderr


def test_a_question_about_another_image_now_is_asked_again(here: Path) -> None:
    evaluate()
    rows = Path("questions.jsonl").read_text()
    Path("questions.jsonl").write_text(rows.replace("0.png", "1.png", 1))
    assert "29 of 30 are answered already" in evaluate().stderr
    assert "30 of 30 are answered already" in evaluate().stderr
    Path("moved").mkdir()
    for name in ("0.png", "1.png"):
        Path(name).rename(f"moved/{name}")
    assert "30 of 30 are answered already" in evaluate("--images", "moved").stderr


def test_a_target_that_cannot_be_judged_by_names_the_field_to_change(here: Path) -> None:
    write_questions(answer_form="number", options=None, target="blue")
    result = evaluate()
    assert "set the field answer_form to free_form; then repeat" in result.stderr and "`" not in result.stderr


def test_another_file_in_the_same_folder_is_named_first(here: Path) -> None:
    questions = Path("questions.jsonl").read_text()
    Path("mine.jsonl").write_text(questions)
    Path("two.jsonl").write_text(questions.replace("number", "figure"))
    asking = ("--model", "scripted:replies.json", "--out", "runs")
    assert p2r("eval", "mine.jsonl", "--limit", "20", *asking).exit_code == 0
    result = p2r("eval", "two.jsonl", *asking)
    assert result.exit_code == 1
    assert (
        "runs/folder/p2r holds the answers to mine.jsonl, not to two.jsonl; limit was 20, now not set" in result.stderr
    )
    assert "hint: give another --out, or remove that folder" in result.stderr
    assert p2r("eval", "mine.jsonl", "--limit", "20", *asking).exit_code == 0


def test_replies_are_shared_by_runs_and_modes_through_a_cache(here: Path) -> None:
    first = evaluate("--cache", "cache", "--mode", "p2r", "--mode", "annotate-only")
    assert first.exit_code == 0, first.output
    Path("replies.json").write_text(Path("replies.json").read_text())
    evaluate("--cache", "cache", out="again")
    traces = {path: read_traces(path) for path in here.glob("*/folder/*/traces.jsonl")}
    assert len(traces) == 3
    reused = {
        path.relative_to(here).parts[::2][:2]: [
            (trace.perception.completion.reused, trace.reasoning.reused)
            for trace in found
            if trace.perception and trace.perception.completion and trace.reasoning
        ]
        for path, found in traces.items()
    }
    assert reused["runs", "p2r"] == [("", "")] * 30
    assert reused["runs", "annotate-only"] == [("cache", "")] * 30
    assert reused["again", "p2r"] == [("cache", "cache")] * 30


def test_what_is_asked_twice_is_looked_at_once_and_said_in_the_costs(here: Path) -> None:
    write_questions(question="What is it?", image="0.png")
    shared = evaluate()
    apart = evaluate("--share-perception", "never", out="apart")
    assert (shared.exit_code, shared.stdout) == (0, apart.stdout.replace("apart/", "runs/"))

    def count_shared(out: str) -> int:
        looks = [t.perception.completion for t in read_traces(Path(out, "folder/p2r/traces.jsonl")) if t.perception]
        return sum(look is not None and look.reused == "shared" for look in looks)

    assert (count_shared("runs"), count_shared("apart")) == (29, 0)
    costs = p2r("score", "runs/folder/p2r").stdout.partition("Cost")[2]
    assert next(line.split() for line in costs.splitlines() if "perceiver" in line)[1:3] == ["30", "29"]
    result = evaluate("--share-perception", "across-rotations")
    assert "share_perception was not set, now across-rotations" in result.stderr


def test_free_answers_may_be_judged_by_a_model_which_the_settings_name(here: Path) -> None:
    write_questions(options=[], target="the brightest star", answer_form="free_form")
    Path("judge.json").write_text(json.dumps({"judge": "yes"}))
    Path("replies.json").write_text(json.dumps({"perceiver": BOXES, "reasoner": "<answer>Sirius</answer>"}))
    by_words, by_model = evaluate(), evaluate("--judge-model", "scripted:judge.json", out="judged")
    assert (row_of(by_words, "overall")[3], row_of(by_model, "overall")[3]) == ("0.0%", "100.0%")
    Path("judge.json").unlink()
    assert row_of(p2r("score", "judged/folder/p2r"), "overall")[3] == "100.0%"
    assert "judge_model was scripted:judge.json, now not set" in evaluate(out="judged").stderr


def test_options_that_say_the_same_do_not_stop_published_data(here: Path) -> None:
    image = base64.b64encode(Path("0.png").read_bytes()).decode()
    header = "index\timage\tquestion\tA\tB\tC\tD\tanswer\tcategory\tl2-category\n"
    row = f"0\t{image}\tWhich?\tred\tblue\tred\tgreen\tA\tPerception/OCR\tx\n"
    Path("mme.tsv").write_text(header + row)
    result = p2r("eval", "mme_realworld_lite:mme.tsv", "--model", "scripted:replies.json")
    assert result.exit_code == 0, result.output
    assert "1 question states the same option twice: 0" in result.stderr


def test_a_run_is_scored_again_without_the_data_or_a_model(here: Path) -> None:
    evaluate()
    Path("questions.jsonl").unlink()
    Path("replies.json").unlink()
    result = p2r("score", "runs/folder/p2r")
    assert result.exit_code == 0, result.output
    for title in ("Accuracy: folder", "Letters", "Boxes", "Accuracy by hit or miss", "Counted apart", "Cost"):
        assert title in result.stdout
    content = json.loads(Path("runs/folder/p2r/scores.json").read_text())
    assert content["run"]["mode"] == "p2r" and content["disagreements"] == {}
    assert Path("runs/folder/p2r/scores.md").read_text() == p2r("score", "runs/folder/p2r", "--markdown").stdout


def test_runs_are_compared_in_words(here: Path) -> None:
    evaluate()
    evaluate(model="other.json", out="others")
    result = p2r("compare", "runs/folder/p2r", "others/folder/p2r")
    assert result.exit_code == 0, result.output
    assert "no evidence of a difference: 30 of 30 samples differ" in result.stdout
    assert "Holm" in result.stdout


def test_shards_merge_into_the_table_of_the_whole(here: Path) -> None:
    whole = evaluate().stdout
    for k in (1, 2):
        evaluate("--shard", f"{k}/2", out="shards")
    merged = p2r("merge", "shards/folder/p2r.1-of-2", "shards/folder/p2r.2-of-2", "--out", "merged")
    assert (merged.exit_code, merged.stdout) == (0, "merged\n")
    scored = p2r("score", "merged").stdout
    assert whole.strip() in scored


def test_a_run_stops_over_the_error_rate_with_the_cause(here: Path) -> None:
    Path("replies.json").write_text(json.dumps({"perceiver": BOXES, "reasoner": ["<answer>A</answer>"] * 3}))
    result = evaluate("--num-at-once", "1")
    assert result.exit_code == 1
    assert (
        "error: stopped: 17 of 20 answers failed, all because the replies for the reasoner are used up" in result.stderr
    )
    assert "hint: remove the cause" in result.stderr


def test_failures_below_the_rate_are_reported_and_asked_again(here: Path) -> None:
    Path("replies.json").write_text(json.dumps({"perceiver": BOXES, "reasoner": ["<answer>A</answer>"] * 28}))
    result = evaluate()
    assert result.exit_code == 1
    assert "2 of 30 answers failed" in result.stderr
    assert row_of(result, "overall")[1] == "28"
    assert "2 of 30 samples have no verdict" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "psychic"], "there is no mode 'psychic'"),
        (["--shard", "3/2"], "'3/2' is not a shard"),
        (["--shard", "9/9"], "the shard 9/9 of folder is empty"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence_with_a_hint(here: Path, arguments: list[str], message: str) -> None:
    result = evaluate(*arguments)
    assert result.exit_code == 1
    assert f"error: {message}" in result.stderr and "hint: " in result.stderr


def test_a_mode_that_needs_boxes_is_refused_before_a_model_is_loaded(here: Path) -> None:
    write_questions(boxes=[])
    result = evaluate("--mode", "oracle", model="gone.json")
    assert "the mode 'oracle' needs gold boxes, which 30 of 30 samples lack" in result.stderr


@pytest.mark.parametrize("command", [["score", "nowhere"], ["compare", "nowhere", "nowhere"]])
def test_a_folder_without_a_run_is_said_so(here: Path, command: list[str]) -> None:
    result = p2r(*command)
    assert result.exit_code == 1
    assert "error: nowhere holds no run" in result.stderr


def test_one_run_is_neither_compared_nor_merged(here: Path) -> None:
    assert "one run cannot be compared" in p2r("compare", "a").stderr
    assert "one run cannot be merged" in p2r("merge", "a", "--out", "b").stderr


def test_a_limit_takes_so_many(here: Path) -> None:
    assert row_of(evaluate("--limit", "7", "--seed", "3"), "overall")[1] == "7"
    assert len(Path("runs/folder/p2r/traces.jsonl").read_text().splitlines()) == 7


def test_a_sound_benchmark_is_fit_to_be_run(here: Path) -> None:
    result = p2r("check", "folder:questions.jsonl")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "fit to be run")
    assert "right answers that score 1.0: 30" in result.stdout


def test_a_bad_row_stops_the_check_unless_it_may_be_left_out(here: Path) -> None:
    lines = Path("questions.jsonl").read_text().splitlines()
    Path("questions.jsonl").write_text("\n".join([*lines[:3], lines[3].replace("1.png", "gone.png"), *lines[4:]]))
    result = p2r("check", "folder:questions.jsonl")
    assert result.exit_code == 1 and "gone.png" in result.stderr
    result = p2r("check", "folder:questions.jsonl", "--skip-bad", "1")
    assert result.exit_code == 0 and "left out: " in result.stdout


def test_a_benchmark_that_cannot_be_scored_fails_the_check(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("0.png").write_bytes(Path("0.png").read_bytes()[:-30])
    result = p2r("check", "folder:questions.jsonl")
    assert result.exit_code == 1
    assert "problem: " in result.stdout and "not fit to be run" in result.stderr


def test_a_wrong_frame_is_said_once_with_the_flag(here: Path) -> None:
    boxes = '[{"bbox_2d": [0.1, 0.1, 0.4, 0.4], "label": "it"}]'
    Path("unit.json").write_text(json.dumps({"perceiver": boxes, "reasoner": "<answer>A</answer>"}))
    for modes in (["--mode", "p2r"], ["--mode", "p2r", "--mode", "direct"]):
        result = evaluate(*modes, model="unit.json")
        assert " ".join(result.output.split()).count("do not fit the frame") == 1
        assert "--frame unit" in " ".join(result.stdout.split())
