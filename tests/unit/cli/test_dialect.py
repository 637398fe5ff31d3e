"""`p2r dialect import` says what it has done, or what is wrong, in one sentence."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from p2r.cli.app import app
from p2r.roles.dialects import texts
from p2r.roles.dialects.texts import Constant


def take(name: str, folder: Path) -> Result:
    return CliRunner().invoke(app, ["dialect", "import", name, str(folder)])


def test_it_takes_the_texts_and_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(
        texts, "AUTHORS", {"zwz": {"system": Constant("a.py", hashlib.sha256(b"Look closely.").hexdigest())}}
    )
    (tmp_path / "a.py").write_text("words = 'Look closely.'")
    result = take("zwz", tmp_path)
    kept = tmp_path / "data" / "p2r" / "dialects" / "zwz"
    assert result.exit_code == 0, result.output
    assert result.stdout == f"zwz is asked in the authors' words from now on; they are in {kept}\n"
    assert (kept / "system.txt").read_text() == "Look closely."


def test_another_folder_is_one_sentence_and_a_hint(tmp_path: Path) -> None:
    result = take("deepeyes", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "eval_vstar.py cannot be read: no such file or directory" in result.stderr.replace("\n", "")
    assert "hint: give the folder of a checkout of the authors' repository" in result.stderr
