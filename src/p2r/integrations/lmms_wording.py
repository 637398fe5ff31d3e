"""In which words p2r asks a question of a task of lmms-eval.

A task writes a question in words of its own: V*'s turns the published "(A) red" into "A. red", MME-RealWorld's
announces "The choices are listed below:". Where p2r has the same benchmark, the question is put as `p2r eval` puts it,
so that both ask a row in the same words. Any other task keeps its words up to its last option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from p2r.benchmarks.options import join_question
from p2r.benchmarks.row_layouts.stated_options import find_lettered
from p2r.types import LETTERS

Layout: TypeAlias = Literal["lines", "headed", "apart"]
"""Options in lines "(A) ...", in such lines under "Options:", or apart from the question; then a prompt adds them."""

KNOWN: Mapping[str, Layout] = {
    **dict.fromkeys(("vstar_bench", "vstar_bench_direct_attributes", "vstar_bench_relative_position"), "lines"),
    **dict.fromkeys(("mmerealworld", "mmerealworld_lite"), "headed"),
    **dict.fromkeys(("hrbench4k", "hrbench8k"), "apart"),
}
"""The layouts of p2r's own loaders of V*, MME-RealWorld and HR-Bench, by the names of the tasks."""
_ANNOUNCED = "The choices are listed below:"


class Worded(NamedTuple):
    """A question as it is asked. options: without letters; () for an open question."""

    question: str
    options: tuple[str, ...]
    options_in_question: bool


def word_question(task: str, text: str, *, keeps_all: bool = False) -> Worded:
    """Return the question that a task of this name writes as this text.

    Args:
        keeps_all: keep all words of the task, its closing sentence among them.
    """
    found = find_lettered(text)
    if found is None:
        return Worded(text, (), options_in_question=False)
    if keeps_all:
        return Worded(text, found.texts, options_in_question=True)
    layout = KNOWN.get(task)
    if layout is None:
        return Worded(drop_closing(text, found.texts), found.texts, options_in_question=True)
    stem = text[: found.marks[0].start].strip().removesuffix(_ANNOUNCED).strip()
    if layout == "apart":
        return Worded(stem, found.texts, options_in_question=False)
    heading = "Options:" if layout == "headed" else ""
    return Worded(join_question(stem, found.texts, heading=heading), found.texts, options_in_question=True)


def drop_closing(text: str, options: Sequence[str]) -> str:
    """Return the text of a question up to its last option; `options` were read out of it."""
    letter = LETTERS[len(options) - 1]
    found = list(re.finditer(rf"\b{letter}[).:]\s*{re.escape(options[-1])}", text))
    return text[: found[-1].end()] if found else text
