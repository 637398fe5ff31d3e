"""`p2r mcp` before it serves: what it needs, and which files it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.cli.mcp import find_working_folder, mcp
from p2r.cli.served import make_access
from p2r.errors import ConfigError, P2RError


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2r.cli.served.find_spec", lambda name: None if name == "mcp" else object())
    with pytest.raises(ConfigError, match="`p2r mcp` needs mcp") as raised:
        mcp()
    assert "[mcp]" in raised.value.hint


def test_the_root_is_no_folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clients start their servers there, and nobody has allowed them to read everything."""
    monkeypatch.chdir(tmp_path)
    assert find_working_folder() == [tmp_path]
    monkeypatch.chdir("/")
    assert find_working_folder() == []


def test_what_cannot_be_served_over_http_is_an_error_before_it_listens(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`allow_host` is 'https://a"):
        mcp(http=True, allow_host=["https://a.b"])
    with pytest.raises(P2RError, match="cannot be read"):
        mcp(http=True, port=0, model=f"scripted:{tmp_path}/nothing.json")


def test_the_home_of_a_folder_of_images_is_found_without_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").mkdir()
    assert make_access(None, None, None, None, [Path("~/photos")]).image_folders == (tmp_path / "photos",)
    with pytest.raises(ConfigError, match=f"`image_folder` is {tmp_path}/none, which is not a folder"):
        make_access(None, None, None, None, [Path("~/none")])
