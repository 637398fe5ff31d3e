"""Hints name arguments in Python and flags on the command line, and every hint of the package does."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer

import p2r
from p2r.cli.app import COMMANDS, load_command
from p2r.cli.evaluate import evaluate_benchmarks
from p2r.cli.flags import SETTINGS, find_flags, write_flags
from p2r.cli.guard import guarded
from p2r.cli.options import Limit, MaxPixels
from p2r.cli.train import train
from p2r.config import Recipe
from p2r.errors import ConfigError

SOURCE = Path(p2r.__file__).parent
FUNCTIONS: dict[str, Callable[..., object]] = {
    name: getattr(import_module(f"p2r.cli.{home.module}"), home.function) for name, home in COMMANDS.items()
}
FLAGS = {name: find_flags(function) for name, function in FUNCTIONS.items()}
ARGUMENTS = {name for flags in FLAGS.values() for name in flags} | {*SETTINGS}
PYTHON_ONLY = {"question", "target", "recipe"}
"""Arguments that a command takes by position, or not at all."""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_flags_of_a_command_are_those_that_it_parses(name: str) -> None:
    parsed = {option for parameter in load_command(name).params for option in parameter.opts}
    assert {*FLAGS[name].values()} <= parsed


@pytest.mark.parametrize(
    ("hint", "written"),
    [
        ("lower `max_pixels`, or ask less", "lower --max-pixels, or ask less"),
        ("`skip_bad=3` would leave it out", "--skip-bad 3 would leave it out"),
        ("take them with `boxes=FOLDER`; or not", "take them with --boxes FOLDER; or not"),
        ('name it with `model="a b"`', "name it with --model 'a b'"),
        ('name them with `model=["a b", "c"]`', "name them with --model 'a b',c"),
        ("as `markdown=True` does", "as --markdown does"),
        ("see `hf auth login`, or `p2r check`", "see `hf auth login`, or `p2r check`"),
        ("or `image_check='never'`", "or --image-check never"),
        ("lower `reasoner_new_tokens`", "lower --reasoner-new-tokens"),
        ("`unheard_of` stays, as does `answer_form`", "`unheard_of` stays, as does `answer_form`"),
        ("a limit is no limit=5 without marks", "a limit is no limit=5 without marks"),
    ],
)
def test_an_argument_in_backticks_becomes_a_flag(hint: str, written: str) -> None:
    assert write_flags(hint, find_flags(evaluate_benchmarks)) == written


@pytest.mark.parametrize(
    ("hint", "written"),
    [
        ("lower `max_pixels`", "lower model.max_pixels"),
        ("`skip_bad=3` would leave it out", "--set data.skip_bad=3 would leave it out"),
        ("go on with `resume=True`", "go on with --resume"),
        ('write it like `changes=["seed=2"]`', "write it like --set seed=2"),
        ("choose another `out`", "choose another out"),
        ("lower `num_at_once`", "lower partner.concurrency"),
        ("or `image_check='never'`", "or --set partner.image_check=never"),
        ("lower `reasoner_new_tokens`", "lower partner.max_new_tokens"),
        ("or from `images=FOLDER`", "or from --set data.images=FOLDER"),
    ],
)
def test_a_training_names_settings_of_its_recipe(hint: str, written: str) -> None:
    assert write_flags(hint, find_flags(train)) == written


@pytest.mark.parametrize("place", SETTINGS.values())
def test_the_settings_of_a_recipe_are_there(place: str) -> None:
    table: object = Recipe.model_validate({"out": "runs/a", "data": {"num_rows": 8}})
    for part in place.split("."):
        assert part in type(table).model_fields  # type: ignore[attr-defined]
        table = getattr(table, part)


def limited(max_pixels: MaxPixels = None, limit: Limit = None) -> None:
    """A command that fails."""
    raise ConfigError("`limit` is too large", hint="lower `max_pixels`")


def test_a_command_prints_flags_where_python_has_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        limited()
    assert str(caught.value) == "`limit` is too large\nhint: lower `max_pixels`"
    with pytest.raises(typer.Exit):
        guarded(limited)()
    assert capsys.readouterr().err == "error: --limit is too large\nhint: lower --max-pixels\n"


def list_hints() -> Iterator[tuple[str, str]]:
    """(place, text) of every hint that is written in the source, with {} for what is filled in."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for value in find_hints(node):
                yield f"{path.relative_to(SOURCE)}:{value.lineno}", read_text(value)


def find_hints(node: ast.AST) -> list[ast.expr]:
    """Hints are given as `hint=`, assigned to a name with "hint" in it, or third to `Row.fail` and `print_error`."""
    if isinstance(node, ast.keyword) and node.arg == "hint":
        return [node.value]
    if isinstance(node, ast.Assign) and any(
        isinstance(name, ast.Name) and "hint" in name.id.lower() for name in node.targets
    ):
        return list(node.value.values) if isinstance(node.value, ast.Dict) else [node.value]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "CAUSES":
        assert isinstance(node.value, ast.Tuple)
        return [cause.elts[-1] for cause in node.value.elts if isinstance(cause, ast.Tuple)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        place = {"fail": 2, "print_error": 1}.get(name)
        return [] if place is None else node.args[place:]
    return []


def read_text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.FormattedValue):
        return "{}"
    inner = [read_text(child) for child in ast.iter_child_nodes(node)]
    return ("" if isinstance(node, ast.JoinedStr | ast.BinOp) else "\n").join(filter(None, inner))


HINTS = list(list_hints())


def test_the_hints_are_found() -> None:
    assert len(HINTS) > 200
    assert any("raise `timeout_s`" in text for _, text in HINTS)
    assert any("lower `max_pixels`, or raise the server's context" in text for _, text in HINTS)


@pytest.mark.parametrize("place,text", HINTS, ids=[place for place, _ in HINTS])
def test_every_hint_names_arguments_as_python_does(place: str, text: str) -> None:
    marked = re.findall(r"`([^`]*)`", text)
    for piece in marked:
        name, _, _ = piece.partition("=")
        assert " " in name or name in ARGUMENTS | PYTHON_ONLY, f"`{piece}` is no argument"
    plain = re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", "", text)
    own = {flag for flags in FLAGS.values() for flag in flags.values()}
    wrong = [flag for flag in re.findall(r"--[a-z][a-z-]*", plain) if flag in own]
    assert not wrong, f"write `argument` for {wrong}: the command turns it into its flag"
    bare = set(re.findall(r"(?<![\w.`])[a-z]+(?:_[a-z]+)+(?![\w.`(])", plain)) & ARGUMENTS
    assert not bare, f"write {bare} in backticks"
    named = set(re.findall(r"(?<![\w.`])([a-z]\w*)=", plain)) & ARGUMENTS
    assert not named, f"write {named}=... in backticks"
