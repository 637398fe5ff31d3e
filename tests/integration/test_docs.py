"""What the documentation shows is what happens: its `console` and `python` blocks are run.

In a `console` block, lines that start with `$ ` are commands and the lines below them their output, stdout and stderr
together, which is compared; seconds may differ. `$ cat NAME` does not run but makes the file with the contents shown
below it. The `python` blocks of a page are run in order, as one program, which must not fail. An image photo.png of
800 x 600 pixels, and the same as photo.jpg, lie in the working directory, and the image that `p2r demo` leaves where it
leaves it.

A `python` block that cannot run here follows a comment with the reason: `<!-- not run: needs a GPU -->`.
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

from p2r.benchmarks.needles import Needles
from p2r.cli.app import HELP, app
from p2r.cli.ask import EXAMPLES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "recipes").rglob("*.md"))
PAGES_WITH_COMMANDS = [page for page in PAGES if "```console" in page.read_text(encoding="utf-8")]
PAGES_WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]

Step = tuple[str, str]

DEMO_SAMPLE = Needles(seed=0, num_samples=240)[152]
"""The question that the demo leaves with its image."""


def read_steps(page: Path) -> Iterator[Step]:
    """(command, output) of every console block."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def read_programs(text: str) -> Iterator[tuple[str, str]]:
    """(reason not to run it or "", code) of every python block of a page."""
    yield from re.findall(r"(?:^<!-- not run: (.+?) -->\n+)?^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an image in two formats, and `p2r` on the path."""
    command = tmp_path / "bin" / "p2r"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m p2r "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    work = tmp_path / "work"
    work.mkdir()
    for name in ("photo.png", "photo.jpg"):
        Image.new("RGB", (800, 600), "navy").save(work / name)
    (work / "out" / "demo").mkdir(parents=True)
    DEMO_SAMPLE.image.load().save(work / "out" / "demo" / "image.png")
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


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run(page: Path, place: Path) -> None:
    program = "\n".join(code for reason, code in read_programs(page.read_text(encoding="utf-8")) if not reason)
    done = subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_a_python_block_is_run_unless_a_comment_says_why_not() -> None:
    block = "```python\nprint(1)\n```\n"
    page = f"{block}\nText.\n\n<!-- not run: needs a GPU -->\n{block}\n{block}"
    assert [reason for reason, _ in read_programs(page)] == ["", "needs a GPU", ""]
    num_blocks = sum(len(re.findall(r"^ *```py", path.read_text("utf-8"), re.MULTILINE)) for path in PAGES)
    assert num_blocks == sum(len(list(read_programs(path.read_text("utf-8")))) for path in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def test_the_first_examples_ask_about_the_image_of_the_demo() -> None:
    for text in (*((ROOT / page).read_text("utf-8") for page in ("README.md", "docs/guides/ask.md")), HELP, EXAMPLES):
        first = re.search(r"p2r ask (\S+) \"([^\"]+)\"", text)
        assert first and first.groups() == ("out/demo/image.png", DEMO_SAMPLE.question)


def test_every_p2r_command_in_the_documentation_is_one() -> None:
    commands = {
        match for page in PAGES for match in re.findall(r"^(?:\$ )?p2r (\w+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert commands <= set(get_group(app).commands)


def normalize(text: str) -> list[str]:
    """Lines without trailing blanks, with seconds made equal."""
    return [re.sub(r"\d+\.\d+ (s|samples/s)(?!\w)", r"N \1", line.rstrip()) for line in text.splitlines()]
