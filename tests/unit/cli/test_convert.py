"""`p2r convert`: what it writes, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from p2r.benchmarks import load_benchmark
from p2r.cli.app import app


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def convert(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["convert", *arguments])


def test_needles_are_written_and_what_is_lost_is_said() -> None:
    result = convert("needles", "train.jsonl", "--to", "ms_swift", "--num-samples", "3", "--seed", "5")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "wrote 3 samples to train.jsonl: ms-swift rows (messages, solution)",
        "lost: the gold boxes of 3 samples",
        "lost: the category of 3 samples",
    ]
    assert [sample.id for sample in load_benchmark("train.jsonl")] == [f"needles:5/{k}" for k in range(3)]
    assert len(list(Path("train_images").iterdir())) == 3


def test_images_go_where_they_are_wanted() -> None:
    assert convert("needles", "a.json", "--to", "llava", "--num-samples", "2", "--inside").exit_code == 0
    assert not Path("a_images").exists()
    assert convert("a.json", "b.parquet", "--to", "zwz", "--no-inside").exit_code == 0
    assert len(list(Path("b_images").iterdir())) == 2
    first, second = (load_benchmark(spec, num_samples=2)[1].image.load() for spec in ("b.parquet", "needles"))
    assert first.tobytes() == second.tobytes()


def test_remarks_about_what_was_read_go_to_stderr() -> None:
    convert("needles", "a.json", "--to", "deepeyes", "--num-samples", "2")
    result = convert("a.json", "b.json", "--to", "p2r10k")
    assert "read as DeepEyes rows" in result.stderr and "read as" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["needles", "a.json", "--to", "swift"], "'swift' is not a layout that can be written"),
        (["needles", "a.doc", "--to", "zwz"], "tells no kind of file to write"),
        (["nowhere.json", "a.json", "--to", "zwz"], "nowhere.json"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_a_hint(arguments: list[str], message: str) -> None:
    result = convert(*arguments)
    assert result.exit_code == 1 and message in result.stderr
    assert "hint: " in result.stderr and "Traceback" not in result.stderr


def test_needles_for_a_layout_of_choices_are_choices() -> None:
    result = convert("needles", "v", "--to", "vstar", "--num-samples", "3")
    assert result.exit_code == 0, result.output
    assert result.stdout == "wrote 3 samples to v: V*'s original folder\n"
    assert load_benchmark("v").name == "vstar"
