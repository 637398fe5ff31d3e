"""Questions with options: the same question with its options in another order."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from p2r.errors import DataError
from p2r.types import LETTERS, Sample

_OPTION_LINE = re.compile(r"^\(([A-Z])\) (.*)$")


def shuffle_order(num_options: int, seed: int, key: str) -> list[int]:
    """An order of options that depends only on seed and key: entry k is the index of the option that comes k-th."""
    order = list(range(num_options))
    random.Random(f"{seed}:{key}").shuffle(order)
    return order


def reorder_options(sample: Sample, order: Sequence[int]) -> Sample:
    """The same question with its options in another order, also where the question's text states them.

    Args:
        order: entry k is the index, in the sample, of the option that comes k-th.

    Raises:
        DataError: `order` is not an order of the options, or the question does not state them as lines "(A) ...".
    """
    if sorted(order) != list(range(len(sample.options))):
        raise DataError(f"{list(order)} is not an order of the {len(sample.options)} options of sample {sample.id!r}")
    options = tuple(sample.options[k] for k in order)
    target = sample.target
    if target and target in LETTERS[: len(options)]:
        target = LETTERS[list(order).index(LETTERS.index(target))]
    question = sample.question
    if sample.options_in_question:
        lines, stated = question.split("\n"), list[int]()
        stated = [k for k, line in enumerate(lines) if _OPTION_LINE.match(line)][-len(options) :]
        if [_OPTION_LINE.sub(r"\2", lines[k]) for k in stated] != list(sample.options):
            raise DataError(f"the question of sample {sample.id!r} does not state its options as lines '(A) ...'")
        for k, letter, option in zip(stated, LETTERS, options, strict=False):
            lines[k] = f"({letter}) {option}"
        question = "\n".join(lines)
    return replace(sample, options=options, target=target, question=question)
