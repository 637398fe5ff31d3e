"""What is distributed: the wheel has everything the code reads, the source distribution also what its tests and pages
need, and the base install does without torch."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder

from p2r.config.read import list_recipes

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "p2r"


def test_every_file_of_the_package_is_in_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("p2r/")}
    there = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    recipes = {f"p2r/recipes/{path.relative_to(ROOT / 'recipes').as_posix()}" for path in list_recipes().values()}
    assert len(recipes) == 8
    assert packed == there | recipes
    assert {"p2r/models/nano/base/model.safetensors", "p2r/models/nano/checkpoint/model.safetensors"} <= packed
    assert wheel.stat().st_size < 20e6


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in the source distribution, relative to its top folder."""
    folder = tmp_path_factory.mktemp("sdist")
    archive = next(SdistBuilder(str(ROOT)).build(directory=str(folder)))
    with tarfile.open(archive) as packed:
        return {member.name.partition("/")[2] for member in packed if member.isfile()}


@pytest.mark.parametrize("folder", [".ci", ".github", "benchmarks", "docs", "recipes", "tests"])
def test_a_folder_is_whole_in_the_source_distribution(folder: str, sdist: set[str]) -> None:
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if is_source(path)}
    assert there
    assert there - sdist == set()


def test_what_builds_and_checks_the_project_is_in_the_source_distribution(sdist: set[str]) -> None:
    assert {".ci/run", "Makefile", "constraints.txt", "pyproject.toml", "tests/conftest.py"} <= sdist
    assert {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"} <= sdist


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_of_a_page_lead_into_the_source_distribution(page: str, sdist: set[str]) -> None:
    links = set(re.findall(r"\]\((?!\w+:)([^)#\s]+)", (ROOT / page).read_text(encoding="utf-8")))
    assert links
    missing = {link for link in links if not any(name == link or name.startswith(f"{link}/") for name in sdist)}
    assert missing == set()


def test_the_command_starts_without_torch() -> None:
    block = (
        "import sys; sys.modules.update(torch=None, transformers=None); import p2r.api\n"
        "from p2r.cli.app import COMMANDS, load_command; print(*map(load_command, COMMANDS))"
    )
    subprocess.run([sys.executable, "-c", block], check=True, timeout=300)


def test_importing_the_package_imports_no_library() -> None:
    check = "import p2r, sys; print(*sorted({'PIL', 'pydantic', 'openai', 'torch', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == ""


def is_source(path: Path) -> bool:
    """A file, and not one that git ignores."""
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()}
    return path.is_file() and not ignored.intersection(path.relative_to(ROOT).parts)
