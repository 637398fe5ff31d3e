"""The entry points by which other tools find p2r name what is there. The modules themselves need those tools."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("group", ["lmms_eval.models", "inspect_ai"])
def test_an_entry_point_names_a_module_and_what_it_defines(group: str) -> None:
    module, _, name = PROJECT["entry-points"][group]["p2r"].partition(":")
    path = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
                if isinstance(target, ast.Name)}  # fmt: skip
    assert not name or name in assigned


def test_the_class_that_lmms_eval_loads_is_defined() -> None:
    tree = ast.parse((ROOT / "src/p2r/integrations/lmms_eval.py").read_text(encoding="utf-8"))
    paths = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
             and str(node.value).startswith("p2r.integrations.lmms_eval.")]  # fmt: skip
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert [str(path).rsplit(".", 1)[-1] in classes for path in paths] == [True]
