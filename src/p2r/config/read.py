"""From a TOML file and `--set a.b=c` to a checked recipe.

Every error names the setting and its value; an unknown setting is refused with the nearest known name.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast, get_args

from pydantic import BaseModel, ValidationError

from p2r.config.recipe import ROLES, Recipe
from p2r.errors import ConfigError, excerpt, explain_fault, reason_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

TomlTable: TypeAlias = dict[str, object]

_load_toml = cast("Callable[[str], TomlTable]", tomllib.loads)  # pyright: ignore[reportUnknownMemberType]

HINTS = {
    "rollout.group_size": "replies are compared within their group: 8 in the paper, at least 2",
    "rollout.temperature": "replies of a group have to differ: 1.0 is usual, and it has to be above 0",
    "out": 'name the folder of the run, such as out = "runs/first"',
}

HINT_SYNTAX = 'correct it there; in TOML a setting is name = value, and a text is quoted: out = "runs/first"'
HINT_JSON = "correct it there, or restore it: a run's recipe.json is written by training"
RENAMED = {"weights": "terms"}
"""Settings that have another name now."""
RULES = {
    ("schedule", "too_short"): "it needs at least one phase",
    ("schedule", "tuple_type"): "it must be a list of tables",
    (
        "reward.judge",
        "literal_error",
    ): 'it must be "words", "partner", or a table such as { url = "http://host:8001/v1" }',
}
"""Hints for values, by setting and pydantic's name of the error, where the general ones are not plain."""


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file, the recipe.json of a run, or a name in `list_recipes`.
        changes: "a.b=c" each, with c as in TOML; a text needs no quotes.

    Raises:
        ConfigError: unreadable, not TOML, an unknown setting, or a value that is not usable.
    """
    path = Path(path)
    if not path.is_file():
        path = list_recipes().get(str(path), path)
    known = ", ".join(list_recipes())
    table = read_table(path, "recipe", hint=f"give the path of a TOML file, or one of the names {known}")
    if "arms" in table:
        raise ConfigError(f"{path} is a study, not a recipe", hint=f"p2r study {path}")
    return parse_recipe(table, changes, where=str(path)).read_from(path.parent)


def read_table(path: Path, what: str, *, hint: str) -> TomlTable:
    """Read a file of settings, in TOML or JSON.

    Args:
        what: what the file is, for messages.
        hint: what to give in its place when it cannot be read.

    Raises:
        ConfigError: unreadable, or in neither of the two.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # an editor may begin it with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the {what} {path} cannot be read: {reason_of(error)}", hint=hint) from error
    try:
        return cast("TomlTable", json.loads(text)) if path.suffix == ".json" else _load_toml(text)
    except ValueError as error:
        named = f"a {what} is a TOML file" + ("; data.source in it names rows" if what == "recipe" else "")
        hint = {".json": HINT_JSON, ".toml": HINT_SYNTAX}.get(path.suffix, named)
        raise ConfigError(
            f"the {what} {path} is not {'JSON' if path.suffix == '.json' else 'TOML'}: {error}", hint=hint
        ) from error


def list_recipes() -> dict[str, Path]:
    """List the recipes that come with p2r by name: those of `recipes/` in a clone, which an installation holds as well.

    "nano" is nano/pra_grpo.toml, "qwen3_vl_4b_lora" is qwen3_vl_4b/pra_grpo_lora.toml, and "pebr_r1_qwen2_5_vl_7b" is
    pebr_r1/qwen2_5_vl_7b.toml.
    """
    installed = Path(__file__).parents[1] / "recipes"
    folder = installed if installed.is_dir() else Path(__file__).parents[3] / "recipes"
    paths = [*folder.glob("*/pra_grpo*.toml"), *folder.glob("*/qwen*.toml")]
    return {f"{path.parent.name}_{path.stem}".replace("_pra_grpo", ""): path for path in sorted(paths)}


def parse_recipe(table: Mapping[str, object], changes: Sequence[str] = (), *, where: str = "the recipe") -> Recipe:
    """Check the tables of a recipe.

    Args:
        changes: see `load_recipe`.
        where: the recipe's name in messages; "" where the caller reads no recipe.

    Raises:
        ConfigError: an unknown setting, or a value that is not usable.
    """
    merged = cast("TomlTable", json.loads(json.dumps(dict(table), default=str)))
    _check_changes(changes)
    if any(change.strip().startswith("schedule.") for change in changes):
        merged.setdefault("schedule", [{"role": role} for role in ROLES])
    change_table(merged, changes)
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise explain_settings(error, where, Recipe) from None


def change_table(table: TomlTable, changes: Sequence[str]) -> None:
    """Set "a.b=c" in a table, each of `changes` in turn. Raises ConfigError for what sets nothing."""
    _check_changes(changes)
    for change in changes:
        _apply(table, change)


def _check_changes(changes: object) -> None:
    if isinstance(changes, str):
        raise ConfigError(f"changes is {excerpt(changes)}, not a list", hint=f"write it as `changes=[{changes!r}]`")
    if not isinstance(changes, Sequence):
        raise ConfigError(f"changes is {excerpt(changes)}, not a list", hint='write it as `changes=["seed=2"]`')
    for change in cast("Sequence[object]", changes):
        if not isinstance(change, str):
            raise ConfigError(
                f"changes holds {excerpt(change)}, which is not a text", hint='write it as `changes=["seed=2"]`'
            )


def _apply(table: TomlTable, change: str) -> None:
    name, equals, text = change.partition("=")
    name = name.strip()
    if not equals or not name:
        raise ConfigError(
            f"{change!r} sets nothing",
            hint='write it like `changes=["rollout.group_size=4"]`',
        )
    *parents, last = name.split(".")
    place: object = table
    for parent in parents:
        place = _step_into(place, parent, name)
    value = read_value(text)
    if isinstance(place, list):
        items = cast("list[object]", place)
        items[_index(items, last, name)] = value
    else:
        cast("TomlTable", place)[last] = value


def _step_into(place: object, key: str, name: str) -> object:
    if isinstance(place, list):
        items = cast("list[object]", place)
        return items[_index(items, key, name)]
    inner = cast("TomlTable", place).setdefault(key, {})
    if not isinstance(inner, (dict, list)):
        raise ConfigError(
            f"{name}: {key} is {inner!r}, which has no settings in it", hint=f"set {key} itself, or see the file"
        )
    return cast(object, inner)


def _index(items: list[object], key: str, name: str) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise ConfigError(
            f"{name}: {key!r} is not the number of an entry", hint=f"there are {len(items)}, counted from 0"
        )
    return int(key)


def read_value(text: str) -> object:
    """Return a value that is written as in TOML; any other text, such as words without quotes, stays as it is."""
    text = text.strip()
    try:
        return _load_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def explain_settings(error: ValidationError, where: str, kind: type[BaseModel]) -> ConfigError:
    """Say which setting is not usable, and what was meant.

    Args:
        where: the file's name in messages; "" for none.
        kind: what the file holds.
    """
    errors = error.errors()
    # A phase's table contains the recipe's, so that a wrong setting of the recipe is reported for the phase as well.
    # A misspelt name is unknown, and the one that was meant is missing: the first says more.
    errors.sort(key=lambda each: (each["loc"][:1] == ("schedule",), each["type"] != "extra_forbidden"))
    first = errors[0]
    place = [part for part in map(str, first["loc"]) if "[" not in part]  # the tag of a union
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _names_beside(kind, place)
        near = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.5)
        if place[-1] in RENAMED:
            near = [RENAMED[place[-1]]]
        hint = f"did you mean {'.'.join([*place[:-1], near[0]])}?" if near else f"there are {', '.join(known)}"
        return ConfigError(f"{where} has the unknown setting {name}", hint=hint)
    rule = RULES.get((name, first["type"]), "")
    hint = HINTS.get(name, "")
    if not hint and first["type"] in ("model_type", "model_attributes_type") and place[:1] != ["schedule"]:
        names = _names_beside(kind, [*place, ""])
        hint = f"write {name} = {{ {names[0]} = ... }}; there are {', '.join(names)}"
    if not hint and name:
        is_missing = first["type"] == "missing"
        do, alone = ("add it to", "give") if is_missing else ("change it in", "give another")
        hint = f'{do} the file, or with `changes=["{name}=..."]`' if where else f"{alone} {name}"
    return ConfigError(f"{f'{where}: ' if where else ''}{explain_fault(first, rule)}", hint=hint)


def _names_beside(model: type[BaseModel], place: Sequence[str]) -> list[str]:
    """The known settings of the table in which an unknown one was found."""
    for part in place[:-1]:
        if part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model in an annotation such as `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
