"""Questions with options: which option a target names, options without their letters, and options in another order."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from p2r.errors import DataError, count_nouns
from p2r.types import LETTERS, Sample

_NAMES_LETTERS = re.compile(
    r"\b[A-Z]\)?(?:, ?\(?[A-Z]\)?)*,? ?(?:and|or|nor|&|和|或|与|及) ?\(?[A-Z]\b"
    r"|\b(?i:options?|answers?|choices?) \(?[A-Z]\b"
)
_NAMES_THE_OTHERS = re.compile(
    r"\b(?:of|all) the (?:above|below|preceding|previous|following)\b"
    r"|\b(?:above|below|preceding|previous|other) (?:answers?|choices|options?)\b|以上(?:都|皆|均|所有|全部|选项|答案)",
    re.IGNORECASE,
)
_WIDE_FORMS = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_AROUND = " \t\r\n.,;:!?*_`\"'()[]{}$。，；：！？、“”‘’「」【】"
_LETTERED = re.compile(
    r"\s*(?:[-*•]\s+)?(?P<bold>\*\*)?(?:[(\[{【]\s*(?P<in>[A-Za-z])\s*[)\]}】][.:、]?"
    r"|(?P<out>[A-Za-z])\s*(?(bold)(?:\*\*)?)(?:[).:、\]】]|\s[-–—=](?=\s)))(?(bold)(?:\*\*)?)\s*(?P<text>.*?)\s*",
    re.DOTALL,
)
_LEAD_IN = re.compile(
    r"\s*(?:(?:so|thus|therefore),?\s+)?(?:the\s+)?(?:(?:final|correct|right|best)\s+)?(?:answer|option|choice|选项|答案)"
    r"(?:\s*(?:is|是|为))?\s*:?\s*(?=[^A-Za-z\s]|[A-Za-z](?![A-Za-z]))",
    re.IGNORECASE,
)


def fold_width(text: str) -> str:
    """Return the text with full-width letters, digits and punctuation as ASCII: the same number of characters."""
    return text.translate(_WIDE_FORMS)


def split_letter(text: str) -> tuple[str, str] | None:
    """Split "(A) red", "A. red", "A、red" or the like into ("A", "red"); None without a letter in front."""
    match = _LETTERED.fullmatch(fold_width(text))
    return ((match["in"] or match["out"]).upper(), text[slice(*match.span("text"))]) if match else None


def strip_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Return options such as "A. red", "B. blue" without their letters; other options as they are."""
    split = [split_letter(option) for option in options]
    if len(split) >= 2 and all(pair and pair[0] == letter for pair, letter in zip(split, LETTERS, strict=False)):
        return tuple(pair[1] for pair in split if pair)
    return tuple(options)


def read_letter(target: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that a target names: "A", "(a)", "A. red", "Option A", "red"; None for no option.

    A letter counts before an option's text. A letter with the text of another option names none.

    Args:
        options: texts without letters; () when unknown, so that any letter may be right.
    """
    letters = LETTERS[: len(options)] if options else LETTERS
    text = fold_width(target).strip()
    for named in dict.fromkeys([text, _LEAD_IN.sub("", text, count=1)]):
        alone = named.strip(_AROUND).upper()
        if len(alone) == 1 and alone in letters:
            return alone
    exact = [letter for letter, option in zip(LETTERS, options, strict=False) if option.strip() == target.strip()]
    if len(exact) == 1:
        return exact[0]
    same = [letter for letter, option in zip(LETTERS, options, strict=False) if _plain(option) == _plain(target)]
    if same and _plain(target):
        return same[0] if len(same) == 1 else None
    named = _LEAD_IN.sub("", text, count=1)
    letter, rest = split_letter(named) or (named[:1], named[1:])
    if letter not in letters or (not options and split_letter(named) is None):
        return None
    return letter if not options or _plain(rest) == _plain(options[LETTERS.index(letter)]) else None


def _plain(text: str) -> str:
    """Return the words to compare, in lower case, without punctuation around them."""
    return " ".join(fold_width(text).casefold().split()).strip(_AROUND)


def find_letter(target: str, options: Sequence[str]) -> str:
    """Return the letter of the option that a target names, as `read_letter` does.

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
    if not found and (letter := read_letter(target, options)):
        return letter
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


def shuffle_options(sample: Sample, seed: int) -> Sample:
    """Return the sample with its options in an order that depends only on seed and id; without options, as it is.

    An option such as "none of the above" keeps its place, and all do where one names the letters of others.
    """
    options = sample.options
    if not options or any(_NAMES_LETTERS.search(option) for option in options):
        return sample
    movable = [k for k, option in enumerate(options) if not _NAMES_THE_OTHERS.search(option)]
    order = list(range(len(options)))
    for place, k in zip(movable, shuffle_order(len(movable), seed, sample.id), strict=True):
        order[place] = movable[k]
    return reorder_options(sample, order)


def reorder_options(sample: Sample, order: Sequence[int]) -> Sample:
    """Return the sample with its options in another order, also where the question's text states them.

    Args:
        order: entry k is the index, in the sample, of the option that becomes the k-th.

    Raises:
        DataError: `order` is not an order of the options, or the question does not state them behind their letters.
    """
    if sorted(order) != list(range(len(sample.options))):
        raise DataError(
            f"{list(order)} is not an order of the {count_nouns(len(sample.options), 'option')} of sample {sample.id!r}"
        )
    options = tuple(sample.options[k] for k in order)
    target = sample.target
    if target and target in LETTERS[: len(options)]:
        target = LETTERS[list(order).index(LETTERS.index(target))]
    question = _state_again(sample, options) if sample.options_in_question else sample.question
    return replace(sample, options=options, target=target, question=question)


def _state_again(sample: Sample, options: Sequence[str]) -> str:
    """Return the question with other options behind its letters."""
    question = sample.question
    end = len(question)
    for letter, stated, new in reversed(list(zip(LETTERS, sample.options, options, strict=False))):
        mark = re.compile(rf"(?<![A-Za-z0-9]){letter}[\W_]{{0,12}}", re.IGNORECASE)
        while (start := question.rfind(stated, 0, end)) >= 0 and not _ends_with(mark, question[:start]):
            end = start + len(stated) - 1
        if start < 0:
            raise DataError(
                f"the question of sample {sample.id!r} does not state its options in order behind their letters",
                hint="give the options apart from the question, or leave the other orders out",
            )
        question = question[:start] + new + question[start + len(stated) :]
        end = start
    return question


def _ends_with(pattern: re.Pattern[str], text: str) -> bool:
    return any(pattern.fullmatch(text, start) for start in range(max(0, len(text) - 13), len(text)))
