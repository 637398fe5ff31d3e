"""Find the options that a text names by their words: as they stand, without what they share, numbers in words.

A reply without a letter may still say an option ("The flag is blue, not red"). It counts when only one option is
named outside denials, conditions and questions, or one behind a word of conclusion; in a reply without an answer tag
only where the last sentence names it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from p2r.answers.clauses import Clause
from p2r.answers.numbers.words import SMALL_NUMBERS
from p2r.answers.phrases import turns
from p2r.answers.phrases.pattern import word_set
from p2r.answers.tokens import Mention, Token, split, words_of
from p2r.types import LETTERS


def match_option(text: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option whose text `text` is. A letter alone does not count as an option's text."""
    text = text.strip(_SPACE)
    if len(normalize(text)) < 2 and not normalize(text).isdigit():
        return None
    exact = [letter for letter, option in zip(LETTERS, options, strict=False) if option.strip() == text]
    return _only(exact) or _only(_equal(normalize(text), options))


def normalize(text: str) -> str:
    """Return a text in lower case, with single blanks, and without punctuation or markup around it."""
    return " ".join(text.casefold().split()).strip(_AROUND)


def find_words(text: str, options: Sequence[str]) -> tuple[list[Token], dict[int, Mention]]:
    """Split a text into tokens, and find the mentions of options by their words, by the index of their first token."""
    aliases = _find_aliases(options)
    tokens = list(_split_east(split(text), [words[0] for words in aliases if len(words) == 1]))
    by_first: dict[str, list[tuple[str, ...]]] = {}
    for words in sorted(aliases, key=len, reverse=True):
        by_first.setdefault(words[0], []).append(words)
    numbers_count = all(option.strip(" .%").isdigit() for option in options)
    mentions: dict[int, Mention] = {}
    taken = 0
    for index, token in enumerate(tokens):
        if index < taken:
            continue
        found = next((words for words in by_first.get(token.lower, ()) if _is_at(tokens, index, words)), None)
        if found:
            taken = index + len(found)
            mentions[index] = Mention(aliases[found], token.start, tokens[taken - 1].end, taken)
        elif numbers_count and token.text[0].isdigit() and not _is_list_number(tokens, index):
            mentions[index] = Mention("?/?", token.start, token.end, index + 1)
    return tokens, mentions


def observe(clauses: Sequence[Clause], text: str, *, committed: bool) -> Mention | None:
    """Return the only option that is named in statements.

    Args:
        committed: the text is only an answer; else its last sentence has to name the option.
    """
    counted = [(clause, place, mention) for clause in clauses for place, mention in clause.counted()]
    if not counted:
        return None
    first, (last, place, mention) = counted[0], counted[-1]
    if first[0] is clauses[0] and first[1] == 0 and first[2].letters and _is_yes_or_no(text, first[2]):
        return first[2]
    letters = {mention.letters for _, _, mention in counted}
    concludes = (
        turns.CONCLUSION.search(last.text[:place])
        or turns.CORRECTION.search(last.text[:place])
        or turns.NOW.search(last.text[:place])
        or turns.IN_TOTAL.match(last.text, place + len(mention.letters))
    )
    if len(letters) > 1 and not (concludes and len(last.mentions) == 1):
        return None
    if committed:
        return mention
    if (turns.REFUSAL.search(text.lower()) and not concludes) or last.sentence != clauses[-1].sentence:
        return None
    return None if _has_unclear_subject(clauses, last) else mention


_SPACE = ' \t\r\n*_`"“”'
_AROUND = " \t\r\n*_~`\"'“”‘’«»()[]{}.,:;!?。、，-–—"
_SMALL_WORDS = word_set("a an the in on at to of is are it its about approximately around roughly there")
_EAST_NUMBERS = dict(zip("零一两三四五六七八九十", range(11), strict=True))
# The same word in another spelling, or as an adjective.
_PAIRS = "gray grey,color colour,colored coloured,center centre,wood wooden,metal metallic,gold golden,wool woolen"
_VARIANTS = {word: other for pair in _PAIRS.split(",") for word, other in itertools.permutations(pair.split())}
_DRAWN = word_set("box boxes rectangle rectangles frame frames outline bounding")
_BEFORE_ONE = word_set("is are only exactly just see count : = answer")
_AGREES = re.compile(r"(?:^|\b)(?:that's|you're|that is|you are|all)$")
_LAST_IS_OTHER = re.compile(r"^(?:it|this|that|the (?:object|item|thing)) (?:is|was|looks|appears)\b")


def _find_aliases(options: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Map the words by which options are named to their letters, as "A/B" where they name several."""
    full = [words_of(option) for option in options]
    aliases: dict[tuple[str, ...], set[str]] = {}
    for letter, words in zip(LETTERS, full, strict=False):
        if words:
            aliases.setdefault(words, set()).add(letter)
    shorter: dict[tuple[str, ...], set[str]] = {}
    for letter, words in zip(LETTERS, full, strict=False):
        for alias in _shorten(words, full):
            if alias and alias not in aliases:
                shorter.setdefault(alias, set()).add(letter)
    aliases |= {alias: letters for alias, letters in shorter.items() if len(letters) == 1}
    return {words: "/".join(sorted(letters)) for words, letters in aliases.items()}


def _shorten(words: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Yield other forms of an option's words."""
    core = tuple(words)
    while core and core[0] in _SMALL_WORDS:
        core = core[1:]
    yield core
    yield tuple(_VARIANTS.get(word, word) for word in core)
    if len(others) > 1:
        num_before = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*others, strict=False))))
        backwards = [tuple(reversed(other[num_before:])) for other in others]
        num_after = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*backwards, strict=False))))
        own = words[num_before : len(words) - num_after]
        if own and not set(own) <= _SMALL_WORDS:
            yield own
    if len(core) == 1:
        word = core[0]
        if word.isascii() and word.isdigit() and int(word) < len(SMALL_NUMBERS):
            yield (SMALL_NUMBERS[int(word)],)
            yield from ((east,) for east, number in _EAST_NUMBERS.items() if number == int(word))
        elif word in SMALL_NUMBERS:
            yield (str(SMALL_NUMBERS.index(word)),)
        elif word.endswith("%"):
            yield (word[:-1],)
        elif word.isascii() and word.isalpha() and len(word) > 2:
            yield (f"{word}s",)


def _split_east(tokens: Sequence[Token], words: Sequence[str]) -> Iterator[Token]:
    """Split tokens of a script without blanks around `words`."""
    parts = sorted((word for word in words if word and not word[0].isascii()), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, parts))) if parts else None
    for token in tokens:
        place = 0
        for match in pattern.finditer(token.text) if pattern and not token.text.isascii() else ():
            for start, end in ((place, match.start()), match.span()):
                if start < end:
                    part = token.text[start:end]
                    yield Token(part, token.start + start, token.start + end, part.lower())
            place = match.end()
        if place < len(token.text):
            yield token if not place else Token(token.text[place:], token.start + place, token.end, token.lower[place:])


def _is_at(tokens: Sequence[Token], index: int, words: Sequence[str]) -> bool:
    """Tell whether `words` stand at `index`, and mean the option."""
    end = index + len(words)
    if [token.lower for token in tokens[index:end]] != list(words):
        return False
    before = tokens[index - 1] if index else None
    after = tokens[end] if end < len(tokens) else None
    first, last = tokens[index], tokens[end - 1]
    if (
        first.text.isascii()
        and before
        and before.end == first.start
        and (before.text[-1].isalnum() or before.text == "-")
    ):
        return not before.text.isascii()
    if last.text.isascii() and after and after.start == last.end and after.text[0].isalnum():
        return not after.text.isascii()
    if after and after.lower in _DRAWN:
        return False
    if words in (("right",), ("correct",)) and _is_agreement(tokens, index):
        return False
    if words == ("one",) and before and before.lower not in _BEFORE_ONE:
        return False
    return not (first.text[0].isdigit() and _is_list_number(tokens, index))


def _is_agreement(tokens: Sequence[Token], index: int) -> bool:
    """Tell whether "right" only agrees: "That's right, ...", "You are right"."""
    before = " ".join(token.lower for token in tokens[max(0, index - 2) : index])
    return bool(_AGREES.search(before)) and not (index + 1 < len(tokens) and tokens[index + 1].is_word)


def _is_list_number(tokens: Sequence[Token], index: int) -> bool:
    """Tell whether a number only counts lines ("1. First"), or steps."""
    before = tokens[index - 1].lower if index else "\n"
    after = tokens[index + 1].text if index + 1 < len(tokens) else ""
    is_last = index + 2 >= len(tokens) or tokens[index + 2].text == "\n"
    return (before == "\n" and after in (".", ")") and not is_last) or before in ("step", "image", "crop", "figure")


def _is_yes_or_no(text: str, mention: Mention) -> bool:
    return text[mention.start : mention.end].lower() in ("yes", "no", "是", "否", "有", "没有")


def _has_unclear_subject(clauses: Sequence[Clause], clause: Clause) -> bool:
    """Tell whether an introduction leaves open what is spoken of: "Based on the image, it is red"."""
    before = [other for other in clauses if other.sentence == clause.sentence and other is not clause]
    return bool(_LAST_IS_OTHER.match(clause.text)) and bool(before) and not any(other.mentions for other in before)


def _equal(text: str, options: Sequence[str]) -> list[str]:
    return [letter for letter, option in zip(LETTERS, options, strict=False) if text and normalize(option) == text]


def _only(letters: Sequence[str]) -> str | None:
    return letters[0] if len(set(letters)) == 1 else None
