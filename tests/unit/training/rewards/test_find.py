"""Reward functions that a recipe names: where they are looked for, and what is refused before the first step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2r.config import RewardSettings, load_recipe
from p2r.errors import ConfigError, StorageError
from p2r.training.rewards.find import FIELDS, OwnTerm, find_all_terms, find_terms, note_sources

REWARDS = """
from p2r.training.rewards import batched

calls = []
LIMIT = 20

def short(reply, num_tokens=3):
    return float(len(reply) < LIMIT)

async def slow(sample, answer):
    return 1.0

@batched
def rank(reply, role):
    return [1.0 for _ in reply]

def everything(**kwargs):
    return 0.0

def judged(trace, *, weight=2.0):
    return weight

def wrong(text):
    return 1.0

def misspelt(samples, reply):
    return 1.0

def positional(reply, /):
    return 1.0

def nothing(*args, scale=1.0):
    return scale

def many(reply):
    yield 1.0

class Rate:
    def __call__(self, boxes):
        return len(boxes)

counted = Rate()
opaque = Rate()
opaque.__signature__ = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(REWARDS)
    return tmp_path


def find(folder: Path, *names: str) -> list[OwnTerm]:
    return find_terms(RewardSettings(terms=dict.fromkeys(names, 1.0)), folder)


@pytest.mark.parametrize(
    ("name", "parameters", "needs_answer", "is_batched"),
    [
        ("short", ("reply", "num_tokens"), False, False),
        ("slow", ("sample", "answer"), True, False),
        ("rank", ("reply", "role"), False, True),
        ("everything", FIELDS, True, False),
        ("judged", ("trace",), True, False),
        ("counted", ("boxes",), False, False),
    ],
)
def test_a_function_says_in_its_parameters_what_it_wants(
    folder: Path, name: str, parameters: tuple[str, ...], needs_answer: bool, is_batched: bool
) -> None:
    (term,) = find(folder, f"mine.py:{name}")
    assert (term.name, term.parameters) == (f"mine.py:{name}", parameters)
    assert (term.needs_answer, term.is_batched) == (needs_answer, is_batched)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("mine.py:shrt", "mine.py has no function 'shrt'", "did you mean mine.py:short?"),
        ("mine.py:xyz", "mine.py has no function 'xyz'", "it has batched, short, slow"),
        ("mine.py:calls", "is [], which is not a function", "returns a number"),
        ("mine.py:Rate", "which is not a function", ""),
        ("mine.py:many", "which is not a function", ""),
        ("mine.py:wrong", "wants 'text', which no function is given", "gets what its parameters name: sample, image"),
        ("mine.py:misspelt", "wants 'samples'", "did you mean sample?"),
        ("mine.py:positional", "wants 'reply'", "what its parameters name"),
        ("mine.py:nothing", "looks at nothing", "what its parameters name"),
        ("yours.py:short", "there is no file", "relative to the recipe"),
        ("no_such_module_here:short", "ModuleNotFoundError", "write it as my_rewards.py:function, relative to"),
        (":short", "cannot be imported", "write it as"),
        ("mine.py:opaque", "does not say what its parameters are", "what its parameters name"),
        ("math:sqrt", "wants 'x'", "what its parameters name"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_hint(folder: Path, name: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find(folder, name)
    assert repr(name) in caught.value.message and message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def short(reply:\n    return 1\n", "in line 1 of broken.py"),
        ("import no_such_module_here\n", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("LIMIT = 1 / 0\n", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "broken.py").write_text(code)
    with pytest.raises(ConfigError, match=r"'broken\.py:short' cannot be imported") as caught:
        find(tmp_path, "broken.py:short")
    assert message in caught.value.message and caught.value.hint == "correct it, and try it with python alone"


def test_files_and_modules_are_looked_for_beside_the_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "near_rewards").mkdir()
    (folder / "near_rewards" / "__init__.py").write_text("")
    (folder / "near_rewards" / "length.py").write_text("from mine import LIMIT\ndef f(reply):\n    return LIMIT\n")
    terms = '{ "mine.py:short" = 1.0, "near_rewards.length:f" = 0.5 }'
    path = folder / "recipe.toml"
    path.write_text(f'out = "x"\n[data]\nnum_rows = 8\n[reward]\nterms = {terms}\n')
    found = find_all_terms(load_recipe(path, ["seed=2"]))
    assert list(found) == ["mine.py:short", "near_rewards.length:f"]
    assert found["near_rewards.length:f"].function(reply="") == 20


def test_files_are_looked_for_in_the_current_folder_too(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert find(tmp_path_factory.mktemp("elsewhere"), "mine.py:short")


def test_functions_of_a_file_share_what_it_keeps_until_it_changes(folder: Path) -> None:
    first, again = (find(folder, f"mine.py:{name}")[0] for name in ("short", "judged"))
    assert first.function.__globals__ is again.function.__globals__
    (folder / "mine.py").write_text(REWARDS.replace("LIMIT = 20", "LIMIT = 2"))
    (changed,) = find(folder, "mine.py:short")
    assert (changed.function(reply="four"), first.function(reply="four")) == (0.0, 1.0)
    assert changed.source != first.source


def test_vetoes_may_name_functions(folder: Path) -> None:
    (term,) = find_terms(RewardSettings(vetoes=("mine.py:short",)), folder)
    assert term.name == "mine.py:short"


def test_a_changed_file_is_told_once_when_a_run_goes_on(folder: Path) -> None:
    def look() -> list[str]:
        return note_sources(folder, {term.name: term for term in find(folder, "mine.py:short")})

    assert note_sources(folder, {}) == [] and not (folder / "rewards.json").exists()
    assert look() == look() == []
    (folder / "mine.py").write_text(REWARDS + "\n# changed\n")
    (said,) = look()
    assert "mine.py:short has changed" in said
    assert look() == []
    (folder / "rewards.json").write_text("{")
    with pytest.raises(StorageError, match="cannot be read back"):
        look()
