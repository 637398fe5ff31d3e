"""What differs between two runs, in words: all of it, and what matters most first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from p2r.benchmarks.base import Origin

ORDER = (
    *(
        "benchmark",
        "rows",
        "num_rows",
        "mode",
        "role",
        "model",
        "perceiver_model",
        "judge_model",
        "prompts",
        "closing",
        "profile",
        "perceiver_profile",
        "family",
        "frame",
    ),
    *(
        "max_pixels",
        "perceiver_new_tokens",
        "reasoner_new_tokens",
        "dtype",
        "engine_args",
        "limit",
        "samples",
        "shuffles",
        "temperature",
        "seed",
        "shard",
        "share_perception",
    ),
)
"""Settings as they matter to a reader. Others come after them."""

QUESTIONS = "benchmark_fingerprint"
HASHES: Mapping[str, tuple[str, frozenset[str]]] = {
    QUESTIONS: ("the questions, right answers or boxes are others", frozenset({"benchmark", "rows", "num_rows"})),
    "prompt_fingerprint": ("the prompts are worded otherwise", frozenset({"prompts"})),
    "roles": (
        "the model, its budget or its decoding is another",
        frozenset(
            {"mode", "model", "perceiver_model", "prompts", "prompt_fingerprint", "family", "frame", "max_pixels"}
            | {"dtype", "engine_args", "seed", "share_perception", "profile", "perceiver_profile"}
            | {"perceiver_new_tokens", "reasoner_new_tokens", "temperature"}
        ),
    ),
    "weights": ("the weights of the frozen role are others", frozenset()),
    "model_weights": ("the weights of the model are others", frozenset({"model"})),
    "perceiver": ("the prompts, the budget or the decoding of the frozen role are others", frozenset()),
    "recipe": ("the rows, the sampling or the rewards of its pre-rollouts are others", frozenset()),
}
"""Settings that are hashes: what it means that one differs, and the settings that change it as well and say more."""

MADE_BY: Mapping[str, frozenset[str]] = {"needles": frozenset({"limit", "seed"}), "vstar": frozenset({"seed"})}
"""Settings that change the questions of a benchmark."""
FACTS = frozenset({"scored_by", "letters", "aggregation"})
"""Settings that are facts of the questions: they say nothing where those are others."""
LOADING = ("split", "boxes", "images", "skip_bad")
"""Arguments of `load_benchmark` that change the questions, beside their file."""


def list_changes(
    before: Mapping[str, JsonValue],
    now: Mapping[str, JsonValue],
    *,
    words: str = "{name} was {before}, now {now}",
) -> list[str]:
    """Say in words which settings differ, what matters most first; [] where none does.

    A hash says nothing to a reader. It is put into words, and only where no setting that changes it differs, too.
    """
    changed = [name for name in sorted(now, key=_rank) if before[name] != now[name]]
    explained = MADE_BY.get(str(now.get("benchmark")), frozenset[str]())
    said: list[str] = []
    for name in changed:
        if name in HASHES:
            sentence, causes = HASHES[name]
            if name == QUESTIONS:
                causes |= explained
            if not causes & set(changed):
                said.append(sentence)
        elif name not in FACTS or QUESTIONS not in changed:
            said.append(words.format(name=name, before=_show(before[name]), now=_show(now[name])))
    return said


def explain_changes(
    before: Mapping[str, JsonValue],
    now: Mapping[str, JsonValue],
    *,
    was: Origin | None = None,
    is_now: Origin | None = None,
) -> str:
    """Say what a folder holds in place of the run that is asked for; "" where it is that run.

    Args:
        was, is_now: where the questions came from, and come from. Moved data are the same questions.
    """
    changes = list_changes(before, now)
    if not changes:
        return ""
    if was is None or is_now is None or before.get(QUESTIONS) == now.get(QUESTIONS):
        return f"another run: {'; '.join(changes)}"
    loading = list(_compare_loading(was, is_now))
    if loading or was.spec != is_now.spec:
        changes = [sentence for sentence in changes if sentence != HASHES[QUESTIONS][0]]
    if was.spec != is_now.spec:
        return "; ".join([f"the answers to {_shorten(was.spec)}, not to {_shorten(is_now.spec)}", *loading, *changes])
    return f"another run: {'; '.join([*loading, *changes])}"


def _compare_loading(was: Origin, is_now: Origin) -> Iterator[str]:
    for name in LOADING:
        before, now = getattr(was, name), getattr(is_now, name)
        if before != now:
            yield f"{name} was {_show(before)}, now {_show(now)}"


def _rank(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _shorten(spec: str) -> str:
    """The spec as it may be typed here: paths below the working directory are relative to it."""
    return spec.replace(f"{Path.cwd()}/", "")


def _show(value: object) -> str:
    return "not set" if value is None else _shorten(str(value))
