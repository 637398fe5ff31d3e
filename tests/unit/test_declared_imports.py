"""Every library that the package imports is declared: in the base install, or in the extra that its code needs.

A library that merely comes along with another one is gone when that one no longer needs it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, NamedTuple

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "p2r"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = "base"

ROOMS = {
    "agents": "mcp",
    "benchmarks": "data",
    "images": "heic",
    "integrations/inspect_ai.py": "inspect",
    "integrations/lmms_eval.py": "lmms-eval",
    "models/gguf": "gguf",
    "models": "local",
    "serving": "serve",
    "training": "train",
}
"""The extra that a folder or a module of the package may need; the base install has to do for everything else."""

UNDECLARED = {
    "bitsandbytes": "8-bit Adam where torchao is missing; for NVIDIA GPUs",
    "pandas": "a table of rollouts for trackio, which brings it",
    "torchao": "8-bit Adam, by optimizer.kind; for NVIDIA GPUs",
    "torchvision": "never used: only looked at, because one that does not fit torch stops transformers from importing",
    "trackio": "a tracker, by trackers.trackio",
    "verl": "an engine, by `p2r train --engine verl`; it brings an older transformers",
    "vllm": "an engine, by vllm: before a model; it brings a torch of its own and a GPU to run on",
    "wandb": "a tracker, by trackers.wandb",
}
"""Distributions that are looked for at run time and left to those who want them, each with its reason."""


class Use(NamedTuple):
    """A module of the package and the distribution it takes something from; is_import: False where it only asks whether
    the distribution is there."""

    module: str
    distribution: str
    is_import: bool


def test_every_import_is_declared_where_it_is_needed() -> None:
    declared = read_declared()
    complaints: list[str] = []
    for module, distribution, is_import in collect_uses():
        room = room_of(module)
        groups = [name for name, members in declared.items() if distribution in members]
        fitting = {BASE, room} if is_import else set(groups)
        if distribution not in UNDECLARED and not fitting.intersection(groups):
            where = f"only in {', '.join(groups)}" if groups else "nowhere"
            complaints.append(f"{module} needs {distribution} in {room or BASE}; it is declared {where}")
    assert complaints == []


def test_what_is_left_undeclared_is_used_and_in_no_group() -> None:
    assert UNDECLARED.keys() - {use.distribution for use in collect_uses()} == set()
    assert [name for name, members in read_declared().items() if members & UNDECLARED.keys()] == []


def test_every_room_with_an_extra_is_there() -> None:
    assert [room for room in ROOMS if not (PACKAGE / room).exists()] == []
    assert set(ROOMS.values()) <= PROJECT["optional-dependencies"].keys()


def test_no_extra_is_empty() -> None:
    assert [name for name, members in PROJECT["optional-dependencies"].items() if not members] == []


def test_every_dependency_has_a_lower_bound() -> None:
    groups = {BASE: PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    others = [line for lines in groups.values() for line in lines if name_of(line) != PROJECT["name"]]
    assert [line for line in others if ">=" not in line.partition(";")[0]] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import PIL.Image, os.path", {"PIL"}),
        ("def late():\n    from huggingface_hub.errors import GatedRepoError", {"huggingface_hub"}),
        ("from . import near\nfrom p2r import walk", set()),
        ("import importlib.util as util\nutil.find_spec('torchao')", {"torchao"}),
        ("import_module('vllm.sampling_params')", {"vllm"}),
        ("find_spec(name)", set()),
        ("import rich\nif TYPE_CHECKING:\n    from pydantic_core import ErrorDetails", {"rich"}),
        ("WORKER = '''\nimport json\nfrom math_verify import parse\n'''", {"math_verify"}),
        ("'''A docstring\nfrom which nothing is imported.'''", set()),
    ],
)
def test_imports_are_found_in_all_their_forms(source: str, found: set[str]) -> None:
    assert {name for name, _ in find_names(source)} == found


def test_asking_whether_a_library_is_there_is_no_import() -> None:
    assert set(find_names("if find_spec('torch'): import torch")) == {("torch", True), ("torch", False)}


def read_declared() -> dict[str, set[str]]:
    """The distributions of each group; a group that names another extra of this project has those of that one too."""
    extras: dict[str, list[str]] = PROJECT["optional-dependencies"]

    def expand(lines: list[str]) -> Iterator[str]:
        for line in lines:
            if name_of(line) != PROJECT["name"]:
                yield name_of(line)
                continue
            for extra in re.findall(r"[\w-]+", line.partition("[")[2].partition("]")[0]):
                yield from expand(extras[extra])

    return {name: set(expand(lines)) for name, lines in {BASE: PROJECT["dependencies"], **extras}.items()}


@cache
def collect_uses() -> list[Use]:
    installed = packages_distributions()
    uses: list[Use] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        for name, is_import in sorted(set(find_names(path.read_text(encoding="utf-8")))):
            # What is not installed here is taken to be called as it is imported.
            uses.append(Use(module, canonical(installed.get(name, [name])[0]), is_import))
    return uses


def find_names(source: str) -> Iterator[tuple[str, bool]]:
    """Libraries by their top-level module, and whether they are imported or only asked for. A program held as text
    counts; what only type checkers import does not."""
    tree = ast.parse(source)
    unread = {id(part) for node in ast.walk(tree) if is_for_checkers(node) for part in ast.walk(node)}
    for node in ast.walk(tree):
        for name, is_import in names_in(node) if id(node) not in unread else ():
            top = name.partition(".")[0]
            if top != "p2r" and top not in sys.stdlib_module_names:
                yield top, is_import


def is_for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def names_in(node: ast.AST) -> Iterator[tuple[str, bool]]:
    match node:
        case ast.Import(names=aliases):
            yield from ((alias.name, True) for alias in aliases)
        case ast.ImportFrom(module=str(module), level=0):
            yield module, True
        case ast.Call(
            func=ast.Name(id=function) | ast.Attribute(attr=function), args=[ast.Constant(value=str(module)), *_]
        ) if function in ("find_spec", "import_module"):
            yield module, function == "import_module"
        case ast.Constant(value=str(text)) if "\nimport " in text or "\nfrom " in text:
            with suppress(SyntaxError):
                yield from find_names(text)
        case _:
            return


def room_of(module: str) -> str | None:
    """The extra that a module of the package may need."""
    return next((extra for room, extra in ROOMS.items() if f"{module}/".startswith(f"{room}/")), None)


def name_of(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None, requirement
    return canonical(match[0])


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
