"""Find options that are named by their position: "option 2", "the last one is correct", "第二个选项"."""

from __future__ import annotations

from collections.abc import Sequence

from p2r.answers.phrases import beside
from p2r.answers.tokens import Mention, TokenRow
from p2r.types import LETTERS


def read_position(row: TokenRow, index: int, options: Sequence[tuple[str, ...]]) -> Mention | None:
    """Read the option whose position is named at `index`; `options` are their words."""
    found = _find_place(row, index, options)
    if found is None or not 0 <= found[0] < len(options):
        return None
    place, end = found
    return Mention(LETTERS[place], row.tokens[index].start, row.tokens[end - 1].end, end)


_PLACES_EAST = "一二三四五六123456"
# How far before "the second" the answer is spoken of.
_CALLING_TOKENS = 5


def _find_place(row: TokenRow, index: int, options: Sequence[tuple[str, ...]]) -> tuple[int, int] | None:
    """Return the place of the option, from 0, and the index behind its words."""
    word, before = row.tokens[index].lower, row.at(index - 1)
    if east := beside.POSITION_EAST_TOKEN.fullmatch(word):
        return _PLACES_EAST.index(east["place"]) % 6 if east["place"] else len(options) - 1, index + 1
    if before and before.lower == "number":
        before = row.at(index - 2)
    if before and before.lower in beside.COUNTED_NOUNS and word in beside.CARDINALS:
        place = beside.CARDINALS.index(word) // 2
        is_other = (word,) in options and (place >= len(options) or options[place] != (word,))
        return None if is_other else (place, index + 1)
    if word not in beside.LAST and word not in beside.ORDINALS:
        return None
    if _is_counted(row, index):
        end = index + 2
    elif word in beside.ORDINALS and _is_counted_alone(row, index):
        end = index + 1
    else:
        return None
    if of_list := beside.OF_LIST.match(row.said(end, end + 4)):
        end += len(of_list[0].split())
    return len(options) - 1 if word in beside.LAST else beside.ORDINALS.index(word) // 2, end


def _is_counted(row: TokenRow, index: int) -> bool:
    """Tell whether an option is counted at `index`: "second option"; "first one" only where one is asked for."""
    word, noun, after = row.tokens[index].lower, row.said(index + 1, index + 2), row.said(index + 2, index + 3)
    if noun == "one":
        if beside.VERDICT_ON_ONE.match(row.said(index + 2, index + 7)):
            return True
        before = row.first_before(index - 1) if row.first_before(index) == "the" else "the"
        return row.is_boundary(index + 2) and before in ("", *beside.BEFORE_ORDINAL)
    if word == "final" or noun == "choice":
        is_ranked = after in beside.BEFORE_CHOICE
        return not is_ranked and noun in ("option", "choice") and (word, noun) != ("final", "choice")
    return noun in beside.COUNTED_NOUNS and (word, noun) != ("last", "answer")


def _is_counted_alone(row: TokenRow, index: int) -> bool:
    """Tell whether an option is counted without a noun: "the third is correct", "the answer is the second"."""
    if row.first_before(index) != "the":
        return False
    if beside.VERDICT_ON_ONE.match(row.said(index + 1, index + 6)):
        return True
    if beside.OF_LIST.match(row.said(index + 1, index + 5)):
        return True
    return row.is_boundary(index + 1) and bool(beside.CALLS_ANSWER.search(row.said(index - _CALLING_TOKENS, index)))
