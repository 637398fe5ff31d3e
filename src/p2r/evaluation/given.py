"""The benchmarks that `evaluate_all` is given: by name or loaded, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from p2r.benchmarks import Benchmark, load_benchmark
from p2r.errors import ConfigError, excerpt

NUM_NEEDLES = 400
"""Needles that are made where no limit is given."""


def check_list(argument: str, given: object) -> None:
    """Refuse one thing where a list is due; a text would be read letter by letter, a benchmark sample by sample."""
    if isinstance(given, (str, Path, Benchmark)) or not isinstance(given, Iterable):
        example = f"[{given!r}]" if isinstance(given, str) else "[...]"
        raise ConfigError(f"{argument} is {excerpt(given)}, not a list", hint=f"write it as {argument}={example}")


def check_benchmark(given: object) -> None:
    """Refuse what is neither the name of a benchmark nor a loaded one. Raises ConfigError."""
    if not isinstance(given, (str, Path, Benchmark)):
        raise ConfigError(
            f"the benchmark is {excerpt(given)}, which is neither the name of one nor a loaded one",
            hint='write it as "needles", or give several to evaluate_all',
        )


def load_all(
    given: Sequence[str | Path | Benchmark],
    *,
    split: str | None,
    boxes: str | Path | None,
    images: str | Path | None,
    skip_bad: int,
    seed: int,
    limit: int | None,
) -> list[Benchmark]:
    """Load what is not loaded. Raises ConfigError when two have one name, because their runs would share a folder."""
    loaded: list[Benchmark] = []
    for one in given:
        if not isinstance(one, Benchmark):
            one = load_benchmark(
                one,
                split=split,
                seed=seed,
                num_samples=limit or NUM_NEEDLES,
                skip_bad=skip_bad,
                boxes=boxes,
                images=images,
            )
        elif split is not None or boxes is not None or images is not None or skip_bad:
            raise ConfigError(
                f"split, boxes, images and skip_bad cannot change {one.name}, which is loaded already",
                hint="give them to load_benchmark",
            )
        for other in loaded:
            if other.name == one.name:
                raise ConfigError(
                    _explain_twice(other, one), hint="evaluate each in a call of its own, with another `out`"
                )
        loaded.append(one)
    return loaded


def _explain_twice(first: Benchmark, second: Benchmark) -> str:
    """Say why two benchmarks of one name cannot be asked together, naming their data where they differ."""
    specs = [one.origin.spec for one in (first, second) if one.origin is not None]
    if len(set(specs)) < 2:
        return f"{first.name} is given twice"
    return f"{specs[0]} and {specs[1]} are both the benchmark {first.name}, so their runs would share a folder"
