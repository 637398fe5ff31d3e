"""Find the letters and the positions that stand for options among tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from p2r.answers.phrases import beside, verdicts
from p2r.answers.positions import read_position
from p2r.answers.tokens import EAST_ASIAN, MARKUP, Mention, Token, TokenRow, words_of
from p2r.types import LETTERS

_IS_EAST_ASIAN = re.compile(rf"[{EAST_ASIAN}]")
_IS_LETTER = re.compile(r"[A-Za-z]")
# What may stand between a letter and its words, and which of it ends a sentence.
_SEPARATORS = frozenset("*_~`\"'“”‘’«»()[]{}$\\.:：,，、-–—|=")
_CLOSES = frozenset(").:：、,，]）】*_-–—;；")
_MOST_SEPARATORS = 8


class LetterFinder(TokenRow):
    """Finds the letters in tokens that stand for options, rather than for words ("A bicycle") or names ("Car A")."""

    def __init__(self, tokens: Sequence[Token], options: Sequence[str]) -> None:
        super().__init__(tokens)
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
                mention = read_position(self, index, self.words)
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

    def opens_line(self, index: int) -> bool:
        return self.first_before(index) in ("", "\n")

    def opens_clause(self, index: int) -> bool:
        before = self.first_before(index)
        return not before or not before[0].isalnum() or before in beside.COUNTED_NOUNS

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
                return self.first_before(index) in beside.LINKS and self.is_boundary(index + 1)
            closes = after is None or self.is_boundary(index + 1)
            return closes and not (after is not None and after.text in "-/'’")
        following = index + 1
        while following < len(self.tokens) and self.tokens[following].text in "*_\"'“”`":
            following += 1
        word = self.at(following)
        if word is None or not word.is_word:
            return True
        if word.text[0].isdigit():
            return bool(verdicts.SHARE.fullmatch(word.text))
        if _IS_EAST_ASIAN.match(word.text):
            return word.text.startswith(beside.AFTER_LETTER_EAST)
        if token.text == "I":
            return False
        return token.text != "A" or word.lower in beside.AFTER_LETTER or word.text in self.valid

    def may_follow(self, index: int) -> bool:
        """Tell whether the word before a letter lets it be an option; any noun makes it a name: "Company B"."""
        if self.is_bracketed(index):
            return True
        place = index - 1
        while place >= 0 and self.tokens[place].text in MARKUP:
            place -= 1
        before = self.at(place)
        if before is None or not before.is_word:
            return True
        word = before.lower
        if _IS_EAST_ASIAN.match(word):
            return word.endswith(beside.BEFORE_LETTER_EAST)
        if word[0].isdigit():
            return (word,) in self.words or verdicts.SHARE.fullmatch(word) is not None
        if not word[0].isascii() and word not in beside.BEFORE_LETTER:
            return True
        if self.tokens[index].text.islower():
            return word in beside.BEFORE_SMALL_LETTER
        return (
            word.removesuffix("s") in beside.BEFORE_LETTER
            or word in beside.BEFORE_LETTER
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
