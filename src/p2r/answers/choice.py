"""Read which option a text chooses.

Rules, in order: the text is an option; it calls a letter the answer ("the answer is B", "I choose B", "B is correct")
or boxes it, and the last one counts; a line is a letter or begins with one ("B. blue"); one option is named ("option
B"); one letter is alone; an option is called the answer ("the answer is blue"); the text names one option. A letter
that is denied ("not A") or is an article ("A bicycle") does not count. Where a rule finds two letters, none is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from p2r.answers import phrases
from p2r.answers.option_text import find_option, match_option, normalize
from p2r.types import LETTERS


class Choice(NamedTuple):
    """A choice and its span in the text.

    letter: None for an option that does not exist, such as F of five.
    """

    letter: str | None
    rule: str
    start: int
    end: int


def read_choice(text: str, options: Sequence[str], *, committed: bool, explicit_only: bool = False) -> Choice | None:
    """Read the option that `text` chooses; None when it chooses none, or more than one.

    Args:
        options: texts without letters; () when unknown, so that any letter may be right.
        committed: the text is only an answer, so that naming an option is choosing it.
        explicit_only: an answer counts only when the text calls it the answer.
    """
    if not text.strip():
        return None
    reader = _Reader(text, options)
    if (letter := match_option(text, options)) and not explicit_only:
        return _whole(text, letter, "option_text")
    stated = max([*reader.stated(), *reader.boxed()], key=lambda choice: choice.start, default=None)
    if stated:
        return None if stated.rule == "ambiguous" else stated
    if explicit_only:
        return reader.stated_text()
    for candidates in (reader.bare_lines(), reader.headed_lines(), reader.named(), reader.alone(committed=committed)):
        if len({choice.letter for choice in candidates}) == 1:
            return candidates[-1]
        if candidates:
            return None
    if stated_text := reader.stated_text():
        return stated_text
    named = find_option(text, options, committed=committed)
    return _whole(text, named, "option_text") if named else None


# How far after a letter its option's text may begin.
_MOST_AFTER_CHARS = 400


class _Reader:
    """A text with its options, and the rules that find letters in it."""

    def __init__(self, text: str, options: Sequence[str]) -> None:
        self.text = text
        self.options = options
        self.valid = LETTERS[: len(options)] if options else LETTERS
        self.denied = {
            match.start("list") + found.start()
            for match in phrases.DENIED_BEFORE.finditer(text)
            for found in re.finditer(r"\b[A-Z]\b", match["list"])
        }

    def stated(self) -> Iterator[Choice]:
        """Find letters that are called the answer."""
        for pattern in phrases.STATED:
            for match in pattern.finditer(self.text):
                if self.is_choice(match):
                    rule = "ambiguous" if self.has_company(match.end("letter")) else "phrase"
                    yield self.choice(match, rule)

    def boxed(self) -> Iterator[Choice]:
        for match in phrases.BOXED.finditer(self.text):
            content = re.sub(r"\\(?:text|textbf|mathbf|mathrm)\{([^{}]*)\}", r"\1", match[1])
            letter = next(iter(re.findall(r"^\W*([A-Za-z])(?:[\W_]*$|[.):])", content)), None)
            if letter is not None:
                yield Choice(self.known(letter), "boxed", *match.span(1))
            elif option := match_option(content, self.options):
                yield Choice(option, "boxed", *match.span(1))

    def bare_lines(self) -> list[Choice]:
        """Find lines that are only a letter."""
        found: list[Choice] = []
        for offset, line in _lines(self.text):
            match = phrases.BARE_LINE.fullmatch(line)
            if match and offset + match.start(1) not in self.denied:
                start = offset + match.start(1)
                found.append(Choice(self.known(match[1]), "letter", start, start + 1))
        return found

    def headed_lines(self) -> list[Choice]:
        """Find lines that begin with a letter, followed by its option or a remark."""
        found: list[Choice] = []
        for offset, line in _lines(self.text):
            match = phrases.HEADED_LINE.match(line) or phrases.OPENED_LINE.match(line)
            if not match or self.known(match["letter"]) is None or offset + match.start("letter") in self.denied:
                continue
            letter, rest = match["letter"].upper(), match["rest"]
            chosen = match_option(rest, self.options)
            has_mark = match.re is phrases.HEADED_LINE
            if chosen == letter or (has_mark and chosen is None and not self.others_in(rest, letter)):
                start = offset + match.start("letter")
                found.append(Choice(letter, "letter", start, start + 1))
        return found

    def named(self) -> list[Choice]:
        """Find letters after the word option."""
        return [self.choice(match, "letter") for match in phrases.NAMED.finditer(self.text) if self.is_choice(match)]

    def alone(self, *, committed: bool) -> list[Choice]:
        """Find single capitals; in a long text only where it ends with them."""
        found = [
            self.choice(match, "letter")
            for match in phrases.ALONE.finditer(self.text)
            if match["letter"].isupper() and match["letter"] in self.valid and self.is_choice(match)
        ]
        if len({choice.letter for choice in found}) > 1:
            found = [choice for choice in found if not self.is_asked(choice.end)]
        if not found or committed or len({choice.letter for choice in found}) > 1:
            return found
        ends_on_it = not re.search(r"\w", self.text[found[-1].end :])
        opens_with_it = not re.search(r"\w", self.text[: found[0].start])
        is_short = len(self.text.split()) <= 8
        if ends_on_it or (is_short and opens_with_it):
            return found
        return [choice for choice in found if self.has_own_text(choice) or (is_short and self.is_quoted(choice))]

    def stated_text(self) -> Choice | None:
        """Find the last option text that is called the answer."""
        for match in reversed(list(phrases.STATED_TEXT.finditer(self.text))):
            rest = match["rest"]
            sentence = re.split(r"[.!?](?:\s|$)", rest, maxsplit=1)[0]
            if letter := match_option(rest, self.options) or match_option(sentence, self.options):
                return Choice(letter, "phrase", *match.span("rest"))
        return None

    def choice(self, match: re.Match[str], rule: str) -> Choice:
        return Choice(self.known(match["letter"]), rule, *match.span("letter"))

    def known(self, letter: str) -> str | None:
        return letter.upper() if letter.upper() in self.valid else None

    def is_choice(self, match: re.Match[str]) -> bool:
        """Tell whether a letter is an option: not denied, an article or part of a name; a small one is closed off."""
        start, end = match.span("letter")
        after = self.text[end : end + _MOST_AFTER_CHARS]
        if (
            start in self.denied
            or phrases.DENIED_AFTER.match(after)
            or phrases.THING_BEFORE.search(self.text[max(0, start - 20) : start])
        ):
            return False
        letter = match["letter"]
        if self.is_followed_by_own_text(letter, after):
            return True
        if letter.islower():
            return phrases.CLOSED_AFTER.match(after) is not None
        noun = phrases.ARTICLE_NOUN.match(after) if letter in "AI" else None
        return noun is None or (letter == "A" and phrases.NO_NOUN.fullmatch(noun["word"]) is not None)

    def is_followed_by_own_text(self, letter: str, after: str) -> bool:
        known = self.known(letter)
        if known is None or not self.options:
            return False
        own, following = normalize(self.options[LETTERS.index(known)]), normalize(after)
        rest = following[len(own) :].lstrip(" .*_")
        return bool(own) and following.startswith(own) and not rest[:1].isalnum()

    def has_own_text(self, choice: Choice) -> bool:
        after = self.text[choice.end : choice.end + _MOST_AFTER_CHARS]
        return choice.letter is not None and self.is_followed_by_own_text(choice.letter, after)

    def is_quoted(self, choice: Choice) -> bool:
        """Tell whether punctuation, or a script without blanks, sets the letter apart."""
        before, after = self.text[max(0, choice.start - 1) : choice.start], self.text[choice.end : choice.end + 1]
        return not (before.isspace() or (before.isascii() and before.isalpha())) or not after.isascii()

    def is_asked(self, end: int) -> bool:
        stop = re.compile(r"[.?!\n]").search(self.text, end)
        return stop is not None and stop[0] == "?"

    def has_company(self, end: int) -> bool:
        """Tell whether the letter before `end` is one of several: "A or B"."""
        match = phrases.COMPANY.match(self.text, end)
        return (
            match is not None and match["letter"].isupper() and match["letter"] in self.valid and self.is_choice(match)
        )

    def others_in(self, rest: str, letter: str) -> bool:
        others = _Reader(rest, self.options).alone(committed=True)
        return any(choice.letter != letter for choice in others)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    offset = 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            yield offset, line.rstrip()
        offset += len(line)


def _whole(text: str, letter: str, rule: str) -> Choice:
    start = len(text) - len(text.lstrip())
    return Choice(letter, rule, start, start + len(text.strip()))
