"""Every way to call a command wrongly is answered in one sentence with the value, and a hint."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from PIL import Image
from typer.models import ArgumentInfo, OptionInfo
from typer.testing import CliRunner, Result

from p2r.cli.app import COMMANDS, app
from p2r.cli.flags import find_flags

Option = tuple[str, str, type, float | None, float | None]


def list_numeric_options() -> list[Option]:
    """Every option of every command that takes a number: command, flag, type, and bounds."""
    found: list[Option] = []
    for name, home in COMMANDS.items():
        function = getattr(import_module(f"p2r.cli.{home.module}"), home.function)
        flags = find_flags(function)
        for parameter, hint in get_type_hints(function, include_extras=True).items():
            kinds = {int, float} & {*get_args(hint), *(part for each in get_args(hint) for part in get_args(each))}
            for info in getattr(hint, "__metadata__", ()):
                if isinstance(info, OptionInfo) and kinds:
                    found.append((name, flags[parameter], kinds.pop(), info.min, info.max))
    return found


def list_choices() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, home in COMMANDS.items():
        function = getattr(import_module(f"p2r.cli.{home.module}"), home.function)
        flags = find_flags(function)
        for parameter, hint in get_type_hints(function, include_extras=True).items():
            if parameter in flags and "Literal" in str(hint) and "list[" not in str(hint):
                found.append((name, flags[parameter]))
    return found


def count_arguments(name: str) -> int:
    function = getattr(import_module(f"p2r.cli.{COMMANDS[name].module}"), COMMANDS[name].function)
    hints = list(get_type_hints(function, include_extras=True).values())
    return sum(isinstance(info, ArgumentInfo) for hint in hints for info in getattr(hint, "__metadata__", ()))


NUMERIC = list_numeric_options()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def assert_misuse(result: Result, sentence: str, hint: str) -> None:
    assert result.exit_code == 2, result.output
    assert re.fullmatch(f"error: {sentence}\\nhint: {hint}\\n", result.stderr), result.stderr
    assert "Input should" not in result.stderr


def test_the_walk_finds_the_options() -> None:
    assert {("sample", "--rollouts"), ("train", "--processes"), ("eval", "--max-error-rate")} <= {
        (name, flag) for name, flag, *_ in NUMERIC
    }
    assert len(NUMERIC) > 30 and len(list_choices()) > 10


@pytest.mark.parametrize(("name", "flag", "kind", "least", "most"), NUMERIC, ids=lambda each: str(each))
def test_a_number_that_an_option_cannot_take_is_named(
    name: str, flag: str, kind: type, least: float | None, most: float | None
) -> None:
    places = ["x"] * count_arguments(name)
    hint = rf"`p2r {name} -h` says what {flag} is for; (without {flag} it is \S+|or leave {flag} out)"
    what = "a whole number" if kind is int else "a number"
    assert_misuse(call(name, *places, flag, "many"), f"{flag} is 'many': it must be {what}", hint)
    if least is not None:
        value = f"{least - 1:g}"
        assert_misuse(call(name, *places, flag, value), f"{flag} is {value}: it must be at least {least:g}", hint)
    if most is not None:
        value = str(most + 1)
        assert_misuse(call(name, *places, flag, value), rf"{flag} is {value}: it must be at most \S+", hint)


@pytest.mark.parametrize(("name", "flag"), [(name, flag) for name, flag, *_, least, _ in NUMERIC if least is None])
def test_an_option_without_bounds_is_checked_by_its_command(name: str, flag: str) -> None:
    assert flag in {"--timeout-s", "--temperature", "--top-p", "--gain"}, (
        "give it a `min`, or name it here and test it below"
    )


@pytest.mark.parametrize("value", ["-5", "0", "nan"])
@pytest.mark.parametrize("command", [["eval", "needles", "--limit", "1"], ["ask", "dot.png", "What?"]])
def test_a_server_is_waited_for_some_time(
    command: list[str], value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("dot.png")
    result = call(*command, "--timeout-s", value)
    assert result.exit_code == 1
    assert f"--timeout-s is {value}: it must be above 0" in result.stderr
    assert "hint: leave it out" in result.stderr


@pytest.mark.parametrize(("name", "flag"), list_choices(), ids=lambda each: str(each))
def test_a_choice_that_an_option_does_not_have_is_named(name: str, flag: str) -> None:
    result = call(name, *["x"] * count_arguments(name), flag, "wrong")
    assert_misuse(result, f"{flag} is 'wrong', which is not one of its choices", f"give {flag} one of '.*'")


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (["trian"], "there is no command 'trian'", "did you mean train[?] `p2r -h` lists the commands"),
        (["zzz"], "there is no command 'zzz'", "`p2r -h` lists the commands"),
        (["--bogus"], "there is no option --bogus", "`p2r -h` lists the options"),
        (["eval"], "BENCHMARK is missing", "`p2r eval -h` says what to give and shows examples"),
        (["train", "--plan"], "RECIPE is missing", "`p2r train -h` says .*"),
        (["train", "nano", "x y", "z"], "'x y z' is more than the command takes", "`p2r train -h` .*quote .*"),
        (["train", "nano", "--plan=3"], "--plan takes no value", "give --plan alone"),
        (["eval", "x", "--limit"], "--limit needs a value", "`p2r eval -h` says what --limit is for"),
        (["sample", "x", "--rolouts", "3"], "there is no option --rolouts", "did you mean --rollouts[?] .*"),
        (["sample", "x", "-q"], "there is no option -q", "`p2r sample -h` lists the options"),
        (["ask", "photo.png"], "the question is missing", 'p2r ask IMAGE "QUESTION"'),
        (["ask", "a.png", "What?", "--options", " "], "--options is ' ', which is empty", "write the answers.*"),
    ],
)  # fmt: skip
def test_a_call_that_no_command_takes_is_explained(arguments: list[str], sentence: str, hint: str) -> None:
    assert_misuse(call(*arguments), sentence, hint)


def test_a_call_without_anything_shows_the_help() -> None:
    result = call()
    assert result.exit_code == 2 and "Usage" in result.output and "error:" not in result.output
