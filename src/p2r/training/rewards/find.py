"""Find the reward functions that a recipe names, and check them before the first step."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from p2r.config import Recipe, RewardSettings, is_own_term
from p2r.errors import ConfigError, StorageError, excerpt
from p2r.files import explain_write_errors, replace_file
from p2r.runs.training import REWARDS_FILE
from p2r.runs.training_log import RewardSources
from p2r.training.rewards.rated import NEED_ANSWER, Rated, is_batched

FIELDS = tuple("image" if field.name == "full_image" else field.name for field in fields(Rated))
_HOW = f"a reward function gets what its parameters name: {', '.join(FIELDS)}"
_loaded: dict[tuple[Path, str], ModuleType] = {}


@dataclass(frozen=True, slots=True)
class OwnTerm:
    """A reward function, the user's or p2r's own.

    name: as the recipe writes it.
    parameters: the fields of `Rated` that it gets.
    source: a hash of the file that defines it.
    """

    name: str
    function: Callable[..., object]
    parameters: tuple[str, ...]
    is_batched: bool
    source: str

    @property
    def needs_answer(self) -> bool:
        return not NEED_ANSWER.isdisjoint(self.parameters)


def find_all_terms(recipe: Recipe) -> dict[str, OwnTerm]:
    """Find the functions of all phases, by name. Raises ConfigError for one that cannot be used."""
    return {term.name: term for phase in recipe.rewarded_phases for term in find_terms(phase.reward, recipe.folder)}


def find_terms(settings: RewardSettings, folder: Path) -> list[OwnTerm]:
    """Find the functions among the terms and the vetoes.

    Args:
        folder: of the recipe. Files are looked for there, then in the current folder.

    Raises:
        ConfigError: there is no such file, module or function, it cannot be imported, or it wants to see something
            that there is not.
    """
    names = dict.fromkeys((*settings.active_terms, *settings.active_vetoes))
    return [_find(name, folder) for name in names if is_own_term(name)]


def note_sources(folder: Path, terms: Mapping[str, OwnTerm]) -> list[str]:
    """Note in a run's folder which source each function has; returns a sentence for each that was another before."""
    if not terms:
        return []
    path, before = folder / REWARDS_FILE, dict[str, str]()
    if path.exists():
        try:
            before = dict(RewardSources.model_validate_json(path.read_text(encoding="utf-8")).sources)
        except (OSError, ValidationError) as error:
            raise StorageError(
                f"{path} cannot be read back", hint="remove it to continue with the rewards as they are"
            ) from error
    sources = {name: term.source for name, term in terms.items()}
    if sources != before:
        with explain_write_errors(path):
            replace_file(path, RewardSources(sources=sources).model_dump_json(indent=2) + "\n")
    return [
        f"the file of the reward term {name} has changed since the run last used it: the steps "
        "from here on use it as it is now"
        for name, source in sources.items()
        if before.get(name, source) != source
    ]


def _find(name: str, folder: Path) -> OwnTerm:
    place, _, wanted = name.rpartition(":")
    path, module = _import(name, place, folder)
    function = getattr(module, wanted, None)
    if function is None:
        own = [key for key, value in vars(module).items() if _is_function(value) and not key.startswith("_")]
        near = difflib.get_close_matches(wanted, own, n=1)
        hint = f"did you mean {place}:{near[0]}?" if near else f"it has {', '.join(own) or 'none'}"
        raise ConfigError(f"the reward term {name!r} is not there: {place} has no function {wanted!r}", hint=hint)
    if not _is_function(function):
        raise ConfigError(
            f"the reward term {name!r} is {excerpt(function)}, which is not a function",
            hint="name a function that returns a number",
        )
    return OwnTerm(name, function, _read_parameters(name, function), is_batched(function), _hash(path))


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, type) and not inspect.isgeneratorfunction(value)


def _import(name: str, place: str, folder: Path) -> tuple[Path | None, ModuleType]:
    """Return the module that defines a function, and its file."""
    for base in (folder, Path()):  # so that it can import what lies beside it; at the end, to hide nothing
        if str(base.resolve()) not in sys.path:
            sys.path.append(str(base.resolve()))
    try:
        if place.endswith(".py"):
            path = _find_file(name, place, folder)
            return path, _import_file(path)
        module = importlib.import_module(place)
        file = getattr(module, "__file__", None)
        return (Path(file) if file else None), module
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == place.partition(".")[0]
        raise ConfigError(
            f"the reward term {name!r} cannot be imported: {_describe_import_error(error)}",
            hint=f"write it as my_rewards.py:function, relative to {folder.resolve()}, or install the module"
            if missing or not place
            else "correct it, and try it with python alone",
        ) from error


def _find_file(name: str, place: str, folder: Path) -> Path:
    looked = [(base / Path(place).expanduser()).resolve() for base in (folder, Path())]
    found = next((path for path in looked if path.is_file()), None)
    if found is None:
        raise ConfigError(
            f"the reward term {name!r} is not there: there is no file {looked[0]}",
            hint="the path is relative to the recipe, or to the current folder",
        )
    return found


def _import_file(path: Path) -> ModuleType:
    """Run a file as a module, once for as long as it stays as it is, so that its functions share what they keep."""
    digest = _hash(path)
    if (path, digest) in _loaded:
        return _loaded[path, digest]
    name = f"_p2r_rewards_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a module up by its name
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _loaded[path, digest] = module
    return module


def _describe_import_error(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.msg} in line {error.lineno} of {Path(error.filename or '').name}"
    return f"{type(error).__name__}: {error}"


def _read_parameters(name: str, function: Callable[..., object]) -> tuple[str, ...]:
    """Return the fields that a function wants: those that it names, or all for **kwargs."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the reward term {name!r} does not say what its parameters are", hint=_HOW) from error
    unknown = next(_find_unknown(parameters), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, FIELDS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"the reward term {name!r} wants {unknown!r}, which no function is given", hint=f"{meant}{_HOW}"
        )
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return FIELDS
    wanted = tuple(each.name for each in parameters if each.name in FIELDS and each.kind is not each.VAR_POSITIONAL)
    if not wanted:
        raise ConfigError(f"the reward term {name!r} looks at nothing", hint=_HOW)
    return wanted


def _find_unknown(parameters: Sequence[inspect.Parameter]) -> Iterator[str]:
    """Yield the parameters that a function cannot do without and that nothing is known for."""
    for each in parameters:
        if each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL):
            continue
        if each.kind is each.POSITIONAL_ONLY or (each.name not in FIELDS and each.default is each.empty):
            yield each.name


def _hash(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path is not None and path.is_file() else ""
