"""`p2r sample` before a model is loaded: what is wrong is a sentence that names the flag."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("torch")

from p2r.cli.app import app
from p2r.cli.sample import settings_as_arguments
from p2r.errors import DataError


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48), "navy").save("a.png")
    row = {"image": "a.png", "question": "Which color?", "options": ["red", "blue"], "target": "B"}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    Path("bad.jsonl").write_text("".join(json.dumps({**row, "image": name}) + "\n" for name in ("a.png", "gone.png")))
    unanswered = {key: value for key, value in row.items() if key != "target"}
    Path("unanswered.jsonl").write_text(json.dumps(unanswered) + "\n")
    Path("empty.jsonl").write_text("")
    Path("file").write_text("")
    return Path("rows.jsonl")


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["needles"], "there is no end of needles", "such as --num 64"),
        (["nowhere.jsonl"], "'nowhere.jsonl' is not a benchmark", "files: PATH"),
        (["empty.jsonl"], "empty.jsonl", "hint:"),
        (
            ["bad.jsonl"],
            "row '2' cannot be trained on: there is no file gone.png",
            "--skip-bad 1 would leave out this row",
        ),
        (["unanswered.jsonl"], "it has no right answer", "--skip-bad 1"),
        (["rows.jsonl", "--images", "elsewhere"], "elsewhere/a.png", "--images FOLDER"),
        (["rows.jsonl", "--model", "http://localhost:9/v1#m"], "--model is http://localhost:9/v1#m", "give nano"),
        (["rows.jsonl", "--model", "vllm:org/model"], "--model is vllm:org/model", "give nano"),
        (["rows.jsonl", "--model", "./nowhere"], "no checkpoint folder ./nowhere", "check the path"),
        (["rows.jsonl", "--temperature", "0"], "--temperature is 0: it must be above 0", "alike"),
        (["rows.jsonl", "--temperature", "inf"], "--temperature is inf", "alike"),
        (["rows.jsonl", "--top-p", "1.5"], "--top-p is 1.5: it must be above 0 and at most 1", "all tokens"),
        (["rows.jsonl", "--judge-model", "nano"], "--judge-model is 'nano', which is not the address", "http://"),
        (
            ["rows.jsonl", "--judge-model", "http://localhost:9/v1#m"],
            "the judge of free answers, --judge-model http://localhost:9/v1, cannot be asked",
            "leave out --judge-model",
        ),
        (["rows.jsonl", "--prompts", "relase"], "relase", "hint:"),
        (["rows.jsonl", "--dtype", "int8"], "--dtype is 'int8': it must be 'float32' or 'bfloat16'", ""),
        (["rows.jsonl", "--out", "file"], "file", "hint:"),
    ],
)
def test_a_mistake_is_a_sentence(rows: Path, arguments: list[str], said: str, hint: str) -> None:
    result = CliRunner().invoke(app, ["sample", *arguments])
    assert result.exit_code == 1, result.output
    assert said in result.stderr and hint in result.stderr
    assert "Traceback" not in result.stderr and "sorry" not in result.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize("arguments", [["--rollouts", "1"], ["--role", "judge"], ["--num", "0"], ["--seed", "-1"]])
def test_a_value_out_of_range_is_a_usage_error(rows: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["sample", "rows.jsonl", *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.skip_bad = 3 would leave out this row", "`skip_bad=3` would leave out this row"),
        ("raise data.max_prompt_tokens, or lower model.max_pixels", "data.max_prompt_tokens, or lower `max_pixels`"),
        ("resume with `resume=True`; or raise partner.max_error_rate",
         "give the same command again; or raise `max_error_rate`"),
        ('set reward.judge = "words" to judge without one', "leave out `judge_model` to judge without one"),
        ("see metadata.skip_bad and a.data.split", "see metadata.skip_bad and a.data.split"),
    ],
)  # fmt: skip
def test_settings_are_named_as_arguments(text: str, expected: str) -> None:
    with pytest.raises(DataError) as caught, settings_as_arguments():
        raise DataError("x", hint=text)
    assert expected in caught.value.hint
