"""Split a text into words, numbers, marks and line ends, and find the letters that stand for options among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from p2r.answers import phrases
from p2r.types import LETTERS


class Token(NamedTuple):
    """A piece of the text. `lower` is what it says, in lower case and with plain apostrophes."""

    text: str
    start: int
    end: int
    lower: str

    @property
    def is_word(self) -> bool:
        return self.text[0].isalnum()


class Mention(NamedTuple):
    """A place where the text names an option by its letter or its words.

    letters: the option's letter; several, as "A/B", for a list, or where letter and words contradict each other.
    start, end: the place in the text.
    next: the index of the first token after the mention, with the option's words where they follow the letter.
    words_end: where the option's own words end that follow; 0 without them.
    is_heading: it opens a line, and a mark sets it apart: "B. blue", "(B) because ...".
    """

    letters: str
    start: int
    end: int
    next: int
    words_end: int = 0
    is_heading: bool = False

    @property
    def has_words(self) -> bool:
        return self.words_end > 0


def split(text: str) -> list[Token]:
    """Split a text into tokens. Blanks are left out, each end of a line is a token."""
    return [
        Token(match[0], match.start(), match.end(), match[0].lower().replace("’", "'"))
        for match in _TOKEN.finditer(text)
    ]


def words_of(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text, in lower case."""
    return tuple(token.lower for token in split(text) if token.is_word)


_EAST_ASIAN = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(
    rf"[{_EAST_ASIAN}]+|\d+(?:[.,:/]\d+)*(?:%|[A-Za-z]{{1,3}}\b)?|[A-Z](?=['’]s\b)|[^\W\d_{_EAST_ASIAN}]+(?:['’][^\W\d_{_EAST_ASIAN}]+)*"
    r"|\n|\.\.+|[-=]+>|[^\w\s]|_"
)
_IS_EAST_ASIAN = re.compile(rf"[{_EAST_ASIAN}]")
_IS_LETTER = re.compile(r"[A-Za-z]")
# What may stand between a letter and its words, and which of it ends a sentence.
_SEPARATORS = frozenset("*_~`\"'“”‘’«»()[]{}$\\.:：,，、-–—|=")
_MARKUP = frozenset("*_~`\"'“”‘’«»「」『』【】[]{}$\\#>")
_CLOSES = frozenset(").:：、,，]）】*_-–—;；")
_MOST_SEPARATORS = 8


class LetterFinder:
    """Finds the letters in tokens that stand for options, rather than for words ("A bicycle") or names ("Car A")."""

    def __init__(self, tokens: Sequence[Token], options: Sequence[str]) -> None:
        self.tokens = tokens
        self.valid = LETTERS[: len(options)] if options else LETTERS
        self.words = [words_of(option) for option in options]
        self.meanings = _find_meanings(options, self.valid)

    def find(self) -> Iterator[tuple[int, Mention]]:
        """Yield the index of each letter's token, and its mention."""
        taken = 0
        for index, token in enumerate(self.tokens):
            if index < taken:
                continue
            if _IS_LETTER.fullmatch(token.text):
                mention = self.read_letter(index)
            else:
                mention = self.read_position(index)
            if mention:
                taken = mention.next
                yield index, mention

    def read_letter(self, index: int) -> Mention | None:
        """Read the letter at `index`; None where it is not an option."""
        token = self.tokens[index]
        letter = token.text.upper()
        if self.is_part_of_word(index):
            return None
        letters = self.meanings.get(letter, letter)
        own_end = self.end_of_words(index, letter) if letter in self.valid else None
        if own_end is None and not self.is_closed_off(index):
            return None
        if not self.may_follow(index):
            return None
        is_heading = own_end is not None or self.is_marked(index)
        is_heading = is_heading and self.opens_line(index)
        if own_end is not None:
            return Mention(letter, token.start, token.start + 1, own_end, self.tokens[own_end - 1].end, is_heading)
        other = self.find_other_words(index, letter)
        if other and letters == letter:
            letters = f"{letter}/{other}"
        return Mention(letters, token.start, token.start + 1, index + 1, 0, is_heading)

    def read_position(self, index: int) -> Mention | None:
        """Read "option 2", "the second option": an option by its position."""
        token = self.tokens[index]
        before, after = self.at(index - 1), self.at(index + 1)
        if before and before.lower in phrases.COUNTED_NOUNS and token.lower in phrases.CARDINALS:
            place, end = phrases.CARDINALS.index(token.lower) // 2, index + 1
            if (token.lower,) in self.words and (place >= len(self.words) or self.words[place] != (token.lower,)):
                return None
        elif after and self.is_counted(index):
            following = self.at(index + 2)
            if after.lower == "choice" and following and following.lower in (":", "is", "was", "would"):
                return None
            place = len(self.words) - 1 if token.lower == "last" else phrases.ORDINALS.index(token.lower) // 2
            end = index + 2
        else:
            return None
        if not self.words or place >= len(self.words):
            return None
        return Mention(LETTERS[place], token.start, self.tokens[end - 1].end, end)

    def is_counted(self, index: int) -> bool:
        """Tell whether an option is counted at `index`: "second option"; "first one" only where one is asked for."""
        word, noun = self.tokens[index].lower, self.tokens[index + 1].lower
        if word != "last" and word not in phrases.ORDINALS:
            return False
        if noun == "one":
            before = self.first_before(index - 1) if self.first_before(index) == "the" else "the"
            return self.is_boundary(index + 2) and before in ("", *phrases.BEFORE_ORDINAL)
        return noun in phrases.COUNTED_NOUNS and not (word == "last" and noun == "answer")

    def at(self, index: int) -> Token | None:
        return self.tokens[index] if 0 <= index < len(self.tokens) else None

    def is_part_of_word(self, index: int) -> bool:
        """Tell whether a letter belongs to a code (B1), a compound (A-frame), an abbreviation (U.S., N/A)."""
        token, before, after = self.tokens[index], self.at(index - 1), self.at(index + 1)
        if before and before.end == token.start:
            if before.text.isdigit():
                return True
            further = self.at(index - 2)
            if before.text in ".'’-/" and further and further.end == before.start and further.text.isalnum():
                is_pair = before.text == "/" and further.text in self.valid
                if not is_pair and not (before.text == "." and len(further.text) > 1) and further.text[-1].isascii():
                    return True
        if after and after.start == token.end:
            if after.text[0].isdigit() or after.text == "+":
                return True
            further = self.at(index + 2)
            if after.text in ".'’-/" and further and further.start == after.end and further.text[0].isalpha():
                is_pair = after.text == "/" and token.text in self.valid and further.text in self.valid
                is_own = self.end_of_words(index, token.text.upper()) is not None
                is_own = is_own or further.lower == "s"
                if not is_pair and not is_own and not (after.text == "." and len(further.text) > 1):
                    return True
        return False

    def end_of_words(self, index: int, letter: str) -> int | None:
        """Return the index behind the option's own words, which follow its letter; None where they do not."""
        place = self.valid.find(letter)
        if not 0 <= place < len(self.words) or not self.words[place]:
            return None
        first, separators = self.skip_separators(index + 1)
        end = self.match_words(first, self.words[place])
        if end is None:
            return None
        ends_clause = self.is_boundary(end)
        if not separators or "," in separators or ("." in separators and not self.opens_clause(index)):
            return end if ends_clause else None
        return end

    def find_other_words(self, index: int, letter: str) -> str | None:
        """Return the letter of another option whose words follow: "B. green"."""
        first, separators = self.skip_separators(index + 1)
        if not separators or set(separators) & set(",，、"):
            return None
        for other, words in zip(LETTERS, self.words, strict=False):
            if other != letter and words and self.tokens[index].text.upper() not in (word.upper() for word in words):
                end = self.match_words(first, words)
                if end is not None and self.is_boundary(end):
                    return other
        return None

    def skip_separators(self, index: int) -> tuple[int, str]:
        first = index
        while index < len(self.tokens) and index - first < _MOST_SEPARATORS and self.tokens[index].text in _SEPARATORS:
            index += 1
        return index, "".join(token.text for token in self.tokens[first:index])

    def match_words(self, index: int, words: Sequence[str]) -> int | None:
        """Return the index behind `words`, which begin at `index`, other marks between them left out."""
        for place, word in enumerate(words):
            while place and index < len(self.tokens) and self.tokens[index].text in _SEPARATORS:
                index += 1
            if index >= len(self.tokens) or self.tokens[index].lower != word:
                return None
            index += 1
        return index

    def is_boundary(self, index: int) -> bool:
        """Tell whether a clause ends at `index`."""
        while index < len(self.tokens) and self.tokens[index].text in _MARKUP:
            index += 1
        token = self.at(index)
        return token is None or not token.is_word or token.lower in phrases.OPENERS

    def opens_line(self, index: int) -> bool:
        return self.first_before(index) in ("", "\n")

    def opens_clause(self, index: int) -> bool:
        before = self.first_before(index)
        return not before or not before[0].isalnum() or before in phrases.COUNTED_NOUNS

    def first_before(self, index: int) -> str:
        """Return the last token before `index` that is not markup; "" at the beginning of the text."""
        index -= 1
        while index >= 0 and (self.tokens[index].text in _MARKUP or self.tokens[index].text in "(（-•–"):
            index -= 1
        return self.tokens[index].lower if index >= 0 else ""

    def is_marked(self, index: int) -> bool:
        after = self.at(index + 1)
        return after is not None and after.text in _CLOSES

    def is_bracketed(self, index: int) -> bool:
        before, after = self.at(index - 1), self.at(index + 1)
        return before is not None and after is not None and before.text in "([{（【" and after.text in ")]}）】"

    def is_closed_off(self, index: int) -> bool:
        """Tell whether what follows shows that a letter is not an article and no small word."""
        token, after = self.tokens[index], self.at(index + 1)
        if token.text.islower():
            if token.text in "aio" and not (self.is_bracketed(index) or self.opens_clause(index)):
                return self.first_before(index) in phrases.LINKS and self.is_boundary(index + 1)
            closes = after is None or self.is_boundary(index + 1)
            return closes and not (after is not None and after.text in "-/'’")
        following = index + 1
        while following < len(self.tokens) and self.tokens[following].text in "*_\"'“”`":
            following += 1
        word = self.at(following)
        if word is None or not word.is_word:
            return True
        if word.text[0].isdigit():
            return bool(phrases.SHARE.fullmatch(word.text))
        if _IS_EAST_ASIAN.match(word.text):
            return word.text.startswith(phrases.AFTER_LETTER_EAST)
        if token.text == "I":
            return False
        return token.text != "A" or word.lower in phrases.AFTER_LETTER or word.text in self.valid

    def may_follow(self, index: int) -> bool:
        """Tell whether the word before a letter lets it be an option; any noun makes it a name: "Company B"."""
        if self.is_bracketed(index):
            return True
        place = index - 1
        while place >= 0 and self.tokens[place].text in _MARKUP:
            place -= 1
        before = self.at(place)
        if before is None or not before.is_word:
            return True
        word = before.lower
        if _IS_EAST_ASIAN.match(word):
            return word.endswith(phrases.BEFORE_LETTER_EAST)
        if word[0].isdigit():
            return (word,) in self.words
        if not word[0].isascii() and word not in phrases.BEFORE_LETTER:
            return True
        if self.tokens[index].text.islower():
            return word in phrases.BEFORE_SMALL_LETTER
        return (
            word.removesuffix("s") in phrases.BEFORE_LETTER
            or word in phrases.BEFORE_LETTER
            or word.endswith("ly")
            or any(words[-1:] == (word,) for words in self.words)
        )


def _find_meanings(options: Sequence[str], valid: str) -> dict[str, str]:
    """Map letters that are the words of options to those options: with the options E, F, G, H the letter F is B."""
    named = [option.strip().upper() for option in options]
    meanings: dict[str, str] = {}
    for letter in {option for option in named if len(option) == 1 and option in LETTERS}:
        found = {LETTERS[place] for place, option in enumerate(named) if option == letter}
        found |= {letter} & set(valid)
        meanings[letter] = "/".join(sorted(found))
    return meanings
