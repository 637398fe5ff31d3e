"""docs/architecture.md, the import layers and the folders are the same plan, and the contracts are strict."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TypedDict, cast

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "p2r"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TORCH = {"torch", "torchvision", "transformers", "peft", "vllm"}
FACES = {"__init__", "__main__"}
"""Files of the package that are no room: they only forward to rooms."""


class Contract(TypedDict):
    name: str
    type: str
    layers: list[str]
    source_modules: list[str]
    forbidden_modules: list[str]
    allow_indirect_imports: bool
    ignore_imports: list[str]
    exhaustive: bool


def read_contracts() -> list[Contract]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return cast("list[Contract]", settings["tool"]["importlinter"]["contracts"])


LAYERS, DIRECT, REACHED = read_contracts()


def read_layers() -> list[set[str]]:
    """The rooms of each layer, from the ground up."""
    return [set(layer.split(" | ")) for layer in reversed(LAYERS["layers"])]


def read_block(heading: str) -> str:
    """The first fenced block below a heading of the page."""
    found = re.search(rf"^## {heading}\n.*?^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


def read_tree() -> list[str]:
    """Every folder (with a trailing slash) and file that the page's tree shows, relative to the package."""
    root, *lines = read_block("Rooms").splitlines()
    assert root == "src/p2r/"
    shown: list[str] = []
    folders: list[str] = []
    for line in lines:
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, text = line.strip().partition("  ")
        above = folders[: depth - 1]
        if name.endswith("/"):
            folders = [*above, name]
            shown.append("".join(folders))
            assert text.strip(), f"{name} is not described"
        elif name.endswith(".py"):
            shown.append("".join([*above, name]))
            assert text.strip(), f"{name} is not described"
        else:
            shown += ["".join([*above, f"{module}.py"]) for module in re.findall(r"\w+", line)]
    return shown


def find_tree() -> set[str]:
    """The same of the package itself."""
    paths = [path for path in PACKAGE.rglob("*") if "__pycache__" not in path.parts]
    folders = {f"{path.relative_to(PACKAGE).as_posix()}/" for path in paths if path.is_dir()}
    files = {path.relative_to(PACKAGE).as_posix() for path in paths if path.suffix == ".py"}
    return folders | {name for name in files if "/" not in name or not name.endswith("/__init__.py")}


def test_the_tree_shows_every_folder_and_file_once() -> None:
    shown = read_tree()
    assert sorted(shown) == sorted(set(shown))
    assert set(shown) == find_tree()


def test_every_room_is_in_one_layer() -> None:
    modules = {Path(name).stem for name in find_tree() if "/" not in name.rstrip("/")}
    rooms_of_layers = [room for layer in read_layers() for room in layer]
    assert sorted(rooms_of_layers) == sorted(modules - FACES - {"prompt_sets"})
    assert LAYERS["exhaustive"]


def test_the_page_prints_the_layers() -> None:
    chain = " ".join(read_block("Layers").split())
    assert [set(layer.split(" | ")) for layer in chain.split(" <- ")] == read_layers()


def test_what_the_page_names_is_where_it_says() -> None:
    named = re.findall(r"`(\w+)` in\s+`(src/[\w/.]+)`", PAGE)
    assert len(named) >= 6
    for name, path in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^ *(async )?(def|class) {name}\b|^{name} = ", source, re.MULTILINE), f"{name} in {path}"
    assert [path for path in re.findall(r"`(src/[\w/.]+)`", PAGE) if not (ROOT / path).exists()] == []


def test_every_folder_of_unit_tests_is_a_room() -> None:
    unit = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(unit).as_posix() for path in unit.rglob("test_*.py")}
    assert {folder for folder in folders if not (PACKAGE / folder).is_dir()} == set()


def test_every_room_has_tests_in_the_quick_selection() -> None:
    """`make quick` runs tests/unit; a room's tests are in the folder, or the file, of its name."""
    unit = ROOT / "tests" / "unit"
    tested = {
        path.relative_to(unit).parts[0].removeprefix("test_").removesuffix(".py") for path in unit.rglob("test_*")
    }
    assert {room for layer in read_layers() for room in layer} - tested == {"version"}


def test_torch_is_named_where_it_may_be_imported() -> None:
    assert set(DIRECT["forbidden_modules"]) == set(REACHED["forbidden_modules"]) == TORCH
    assert DIRECT["source_modules"] == ["p2r"]
    allowed = {line.split(" -> ")[0] for line in DIRECT["ignore_imports"]}
    assert all(name.startswith(("p2r.models.local.", "p2r.training.")) for name in allowed)


def test_no_other_room_reaches_torch_through_another() -> None:
    """Every room is a source but training, and the two modules of models that load weights."""
    assert REACHED["allow_indirect_imports"] is False
    all_rooms = {f"p2r.{room}" for layer in read_layers() for room in layer}
    named = set(REACHED["source_modules"])
    inside_models = {f"p2r.models.{path.stem}" for path in (PACKAGE / "models").iterdir() if path.stem[0] != "_"}
    assert all_rooms - named == {"p2r.models", "p2r.training", "p2r.version"}
    assert inside_models - named == {"p2r.models.local", "p2r.models.vllm"}


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("report/kit/page.py", "from p2r.training.update import update_policy", "p2r.report is not allowed to import"),
        ("runs/store.py", "import torch", "p2r.runs.store -> torch"),
        ("evaluation/scoring.py", "from p2r.models.local.engine import Engine", "p2r.evaluation is not allowed to"),
        ("training/rewards/reward.py", "import torch", "p2r.training.rewards.reward -> torch"),
        ("boxes/fit.py", "from p2r.walks import walk_all", "p2r.boxes is not allowed to import p2r.walks"),
    ],
)
def test_a_contract_breaks_where_it_should(tmp_path: Path, module: str, line: str, broken: str) -> None:
    done = lint_with(tmp_path, module, line)
    assert done.returncode == 1
    assert broken in done.stdout


def test_the_contracts_are_kept(tmp_path: Path) -> None:
    done = lint_with(tmp_path, "version.py", "")
    assert done.returncode == 0, done.stdout


def lint_with(folder: Path, module: str, line: str) -> subprocess.CompletedProcess[str]:
    """Check the contracts on a copy of the package's sources with one more line in a module."""
    for path in PACKAGE.rglob("*.py"):
        copy = folder / "src" / "p2r" / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    changed = folder / "src" / "p2r" / module
    changed.write_text(f"{changed.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_two_rooms_have_a_class_of_one_name() -> None:
    files = PACKAGE.rglob("*.py")
    names = [name for path in files for name in re.findall(r"^class ([A-Z]\w*)", path.read_text("utf-8"), re.M)]
    assert not [name for name, count in Counter(names).items() if count > 1]
