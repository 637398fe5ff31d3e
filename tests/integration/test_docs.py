"""What the documentation shows is what happens: every block marked `console` is run and its output compared.

In a block, lines that start with `$ ` are commands and the lines below them their output, stdout and stderr together.
`$ cat NAME` does not run but makes the file: what is shown below it is what is in it. Seconds may differ. An image
photo.png of 800 x 600 pixels is at hand.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.main import get_group

from p2r.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES_WITH_COMMANDS = [page for page in PAGES if "```console" in page.read_text(encoding="utf-8")]

Step = tuple[str, str]


def read_steps(page: Path) -> Iterator[Step]:
    """(command, output) of every console block."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an image, and `p2r` on the path."""
    command = tmp_path / "bin" / "p2r"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m p2r "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    work = tmp_path / "work"
    work.mkdir()
    Image.new("RGB", (800, 600), "navy").save(work / "photo.png")
    return work


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: page.name)
def test_commands_print_what_the_page_shows(page: Path, place: Path) -> None:
    for command, shown in read_steps(page):
        if command.startswith("cat "):
            (place / command.removeprefix("cat ")).write_text(shown)
            continue
        done = subprocess.run(
            command, shell=True, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
        )
        assert normalize(done.stdout) == normalize(shown), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def test_every_p2r_command_in_the_documentation_is_one() -> None:
    commands = {
        match for page in PAGES for match in re.findall(r"^(?:\$ )?p2r (\w+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert commands <= set(get_group(app).commands)


def normalize(text: str) -> list[str]:
    """Lines without trailing blanks, with seconds made equal."""
    return [re.sub(r"\d+\.\d+ (s|samples/s)(?!\w)", r"N \1", line.rstrip()) for line in text.splitlines()]
