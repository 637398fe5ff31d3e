"""Questions with options: which option a target names, and the same question with its options in another order."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from p2r.errors import DataError
from p2r.types import LETTERS, Sample

_OPTION_LINE = re.compile(r"^\(([A-Z])\) (.*)$")


def find_letter(target: str, options: Sequence[str]) -> str:
    """Return the letter of the option that a target names, by its letter or by its text.

    Raises:
        DataError: the target names no option, or more than one: the letter of one is the text of another.
    """
    named = target.strip()
    letters = LETTERS[: len(options)]
    by_text = [letter for letter, option in zip(LETTERS, options, strict=False) if option.strip() == named]
    by_letter = [named] if len(named) == 1 and named in letters else []
    if not by_text and not by_letter and len(named) == 1 and named.upper() in letters:
        by_letter = [named.upper()]
    found = list(dict.fromkeys([*by_letter, *by_text]))
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"the target {target!r} names more than one option: {', '.join(found)}",
            hint="make the options different, and none of them the letter of another",
        )
    raise DataError(
        f"the target {target!r} is neither the letter nor the text of an option",
        hint=f"give one of {', '.join(letters)}, or an option's text, as the target",
    )


def shuffle_order(num_options: int, seed: int, key: str) -> list[int]:
    """Return an order that depends only on seed and key: entry k is the index of the option that becomes the k-th."""
    order = list(range(num_options))
    random.Random(f"{seed}:{key}").shuffle(order)
    return order


def reorder_options(sample: Sample, order: Sequence[int]) -> Sample:
    """Return the sample with its options in another order, also where the question's text states them.

    Args:
        order: entry k is the index, in the sample, of the option that becomes the k-th.

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
