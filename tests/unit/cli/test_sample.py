"""`p2r sample` before a model is loaded: what is wrong is a sentence that names the flag."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

pytest.importorskip("torch")

import torch

from p2r.cli import sample
from p2r.cli.app import app
from p2r.cli.sample import settings_as_arguments
from p2r.errors import DataError
from p2r.runs.difficulty import RowDifficulty
from p2r.training import sample as training_sample
from p2r.training.sample import SampledRows
from tests.fakes.training import make_sample


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
    Path("trained").mkdir()
    Path("trained/recipe.json").write_text("{}")
    return Path("rows.jsonl")


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["needles"], "needles never run out", "such as --num 64"),
        (["nowhere.jsonl"], "there is no file or folder nowhere.jsonl", "check the path"),
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
        (["rows.jsonl", "--dtype", "int8"], "error: --dtype is 'int8': it must be 'float32' or", ""),
        (["rows.jsonl", "--max-pixels", "10"], "--max-pixels 10 is less than one visual token", "is usual"),
        (["rows.jsonl", "--out", "file"], "file is a file", "another folder"),
        (["rows.jsonl", "--out", "trained"], "trained holds a training run", "give another --out"),
        (["unanswered.jsonl", "--out", "file"], "file is a file", "another folder"),  # before rows are read
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


def show(monkeypatch: pytest.MonkeyPatch, *counts: tuple[int, int], note: str = "", folder: str = "my out") -> Result:
    """Run the command as if it had found rows with so many right and wrong answers in two rollouts."""
    found = [
        RowDifficulty(
            id=f"r{number}", num_judged=2, mean=None, variance=None, num_rollouts=2, num_right=right, num_wrong=wrong,
            failure="" if right + wrong == 2 else "the server has gone",
        )
        for number, (right, wrong) in enumerate(counts)
    ]  # fmt: skip
    rows = [make_sample(row.id) for row in found]
    monkeypatch.setattr(sample, "_run", lambda *_: SampledRows(Path(folder), rows, found, 2, note))
    return CliRunner().invoke(app, ["sample", "needles", "--num", "4", "--rollouts", "2"])


def test_what_was_found_is_said_with_the_next_step(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = show(monkeypatch, (2, 0), (1, 1), (0, 2))
    assert result.exit_code == 0, result.output
    assert "3 rows: 1 easy, 1 medium, 1 hard; a file of each kind is in my out" in result.stdout
    assert "to train on the medium ones: p2r train RECIPE --set 'data.source=my out/medium.jsonl'" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([(2, 0), (0, 2)], "to train on the easy ones: p2r train RECIPE --set data.source=out/easy.jsonl"),
        ([(0, 2)], "no row teaches this model: give easier rows, or another model"),
        ([(0, 0)], "no row teaches this model: give easier rows, or another model"),
    ],
)
def test_the_next_step_fits_what_was_found(
    rows: Path, monkeypatch: pytest.MonkeyPatch, counts: list[tuple[int, int]], said: str
) -> None:
    assert show(monkeypatch, *counts, folder="out").stdout.splitlines()[-1] == said


def test_rows_without_a_kind_or_a_place_are_said(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = show(monkeypatch, (2, 0), (1, 0), (0, 0), note="1 row has no place in the files")
    assert result.stderr == (
        "2 rows are unjudged, because rollouts failed; the first is r1: the server has gone\n"
        "1 row has no place in the files\n"
    )
    assert "1 easy, 0 medium, 0 hard, 2 unjudged" in result.stdout


def test_too_little_memory_is_a_sentence(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def measure(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    monkeypatch.setattr(training_sample, "measure_difficulty", measure)
    result = CliRunner().invoke(app, ["sample", "rows.jsonl"])
    assert result.exit_code == 1
    assert "error: out of memory: CUDA out of memory" in result.stderr
    assert "hint: lower --num-at-once, --max-new-tokens, or --max-pixels; what was measured is kept" in result.stderr
