"""`p2r export`: what it writes, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from p2r.cli.app import app

pytest.importorskip("gguf")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def export(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["export", *arguments])


def test_two_files_are_written_and_how_to_serve_them_is_said() -> None:
    result = export("gguf", "nano", "mine", "--dtype", "float16")
    assert result.exit_code == 0, result.output
    first, second, note, serve, ask = result.stdout.splitlines()
    assert first == "wrote mine/mine-F16.gguf (3.7 MB)"
    assert second == "wrote mine/mmproj-mine-F16.gguf (4.4 MB)"
    assert note.startswith("note: llama.cpp splits the coordinates")
    assert serve == "serve: llama-server -m mine/mine-F16.gguf --mmproj mine/mmproj-mine-F16.gguf"
    assert ask == "ask: p2r ask IMAGE QUESTION --model http://127.0.0.1:8080/v1 --profile nano"
    assert sorted(path.name for path in Path("mine").iterdir()) == ["mine-F16.gguf", "mmproj-mine-F16.gguf"]


def test_the_checkpoints_own_dtype_is_kept() -> None:
    assert export("gguf", "nano", "mine").exit_code == 0
    assert Path("mine/mine-BF16.gguf").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["gguf", "nanoo", "mine"], 1, "unknown model 'nanoo'", "did you mean nano?"),
        (["gguf", "nano", "."], 1, ". exists already", "choose another name"),
        (["onnx", "nano", "mine"], 2, "FORMAT is 'onnx'", "gguf"),
        (["gguf", "vllm:nano", "mine"], 1, "'vllm:nano' is not a checkpoint", "give a folder, a hub id"),
        (["gguf", "http://u:secret@h/v1", "mine"], 1, "'http://***@h/v1' is not a checkpoint", "give a folder"),
        (["gguf", "./nowhere", "mine"], 1, "there is no checkpoint folder ./nowhere", "check the path"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_a_hint(
    arguments: list[str], code: int, message: str, hint: str
) -> None:
    result = export(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr and hint in result.stderr and "Traceback" not in result.stderr


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    result = export("gguf", "nano", "mine")
    assert result.exit_code == 1
    assert "gguf, which is not installed" in result.stderr and "[gguf]'" in result.stderr


def test_torch_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "transformers", "safetensors"):
        monkeypatch.setitem(sys.modules, name, None)
    assert export("gguf", "nano", "mine").exit_code == 0
