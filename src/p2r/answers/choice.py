"""Read which option a text chooses.

A text is cut into clauses (`clauses`), and only statements count (`moods`): no denial ("A is wrong"), condition ("if it
were red, A"), question ("is it A?") or comparison ("a common wrong answer is A"). Rules, in order:

1. The text is an option.
2. It calls a letter the answer: strongly ("the answer is B", "I choose B", "B is correct", a box) or weakly ("B fits
   best", "so B"). An explanation never overturns an answer: a weak statement after a strong one does not count. Where
   statements differ, the later one counts behind a word of correction or conclusion; else there is no answer.
3. It goes through the options, with a verdict on each ("A: no, B: yes"), or rates one highest ("A (20%), B (80%)").
4. A line is a letter or begins with one ("B. blue"); one option is named ("option B"); one letter is alone.
5. It says an option's words (`option_text`).

Where a rule finds two letters, none is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from p2r.answers.claims import Claim, decide, find_claims
from p2r.answers.clauses import Clause, Mood
from p2r.answers.letters import LetterFinder
from p2r.answers.listing import read_listing
from p2r.answers.moods import read_clauses
from p2r.answers.option_text import find_words, match_option, observe
from p2r.answers.phrases import statements, verdicts
from p2r.answers.tokens import Mention, split
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
        explicit_only: the text may be unfinished, so that an answer counts only when the text calls it the answer.
    """
    if not text.strip():
        return None
    text = _NO_TEXT.sub(lambda match: " " * len(match[0]), text)
    if (letter := match_option(text, options)) and not explicit_only:
        start = len(text) - len(text.lstrip())
        return Choice(letter, "option_text", start, start + len(text.strip()))
    reader = _Reader(text, options)
    claims = [*find_claims(reader.clauses, reader.listing.listed, strong_only=explicit_only), *reader.boxed()]
    if claims and (opening := reader.opening()):
        claims.append(Claim(opening, is_strong=True, is_turn=False))
    if claims:
        claim = decide(sorted(claims, key=lambda claim: claim.mention.start))
        return reader.choice(claim.mention, "boxed" if claim.is_boxed else "phrase") if claim else None
    if explicit_only:
        return reader.stated_words()
    if chosen := reader.listing.chosen:
        return reader.choice(chosen, "letter")
    if _RATED.search(text):
        return None
    for found in (reader.bare_lines(), reader.headings(), reader.named(), reader.alone(committed=committed)):
        letters = {mention.letters for mention in found}
        if len(letters) == 1:
            return reader.choice(found[-1], "letter")
        if letters:
            return None
    return reader.stated_words() or reader.observed_words(committed=committed)


_LONGEST_REMARK_WORDS = 8
_MOST_HEADINGS = 100
# How far before an option the words are looked for that change its meaning.
_NEAR_CHARS = 80
# Text that is struck out, and HTML tags.
# Letters with a number each: "A: 10% B: 70%", "1. B 2. A 3. C".
_RATED = re.compile(
    r"(?:(?<![A-Za-z])[A-Z]\W{1,3}\d+(?:\.\d+)?[ ]?%?\W{1,4}){2}(?=[A-Z](?![A-Za-z]))"
    r"|(?:(?<!\d)\d[.)][ ]?[A-Z][ ,;>]{1,3}){2}(?=\d[.)][ ]?[A-Z](?![A-Za-z]))"
)
# What is struck out, markup, and idioms whose "no" is not an answer.
_NO_TEXT = re.compile(
    r"~~[^~\n]{1,200}~~|</?(?:b|i|u|p|em|br|strong|code|span|div|mark)\b[^<>\n]{0,80}>"
    r"|\bno (?:doubt|question|problem|wonder|worries)\b(?: about (?:it|that|this)\b)?[,:!]?",
    re.IGNORECASE,
)


class _Reader:
    """A text with its options, and the rules that find choices in it."""

    def __init__(self, text: str, options: Sequence[str]) -> None:
        self.text = text
        self.options = options
        self.valid = LETTERS[: len(options)] if options else LETTERS
        tokens = split(verdicts.TICK_BOX.sub("   ", text))
        mentions = dict(LetterFinder(tokens, options).find())
        self.mentions = tuple(mentions.values())
        self.clauses = read_clauses(tokens, mentions)
        self.listing = read_listing(text, tokens, mentions, len(options))

    def boxed(self) -> Iterator[Claim]:
        """Find boxed letters and words; a box is where an answer ends."""
        for match in statements.BOXED.finditer(self.text):
            content = re.sub(r"\\(?:text|textbf|mathbf|mathrm)\{([^{}]*)\}", r"\1", match[1])
            letter = next(iter(re.findall(r"^\W*([A-Za-z])(?:[\W_]*$|[.):])", content)), None)
            letter = letter.upper() if letter else match_option(content, self.options)
            if letter:
                yield Claim(Mention(letter, *match.span(1), next=0), is_strong=True, is_turn=True, is_boxed=True)

    @cached_property
    def counted(self) -> list[Mention]:
        """List the mentions that may be a choice, the options that are only gone through left out."""
        return [
            mention
            for clause in self.clauses
            if not clause.is_explanation
            for place, mention in clause.counted()
            if mention.start not in self.listing.listed
            and not statements.LOOKED_AT.search(clause.text[max(0, place - _NEAR_CHARS) : place + len(mention.letters)])
        ]

    def bare_lines(self) -> list[Mention]:
        """Find lines that are only a letter."""
        is_one = len(self.clauses) == 1
        return [
            mention
            for clause in self.clauses
            if clause.opens_line and clause.ends_line and (is_one or clause.kind is Mood.STATEMENT)
            for mention in clause.mentions.values()
            if clause.text.strip(": ") == mention.letters and not mention.has_words
        ]

    def opening(self) -> Mention | None:
        """Find the option that is the first line."""
        first = self.clauses[0] if self.clauses else None
        if first is None or not first.ends_line or first.kind is not Mood.STATEMENT or len(first.mentions) != 1:
            return None
        mention = first.mentions.get(0)
        is_option = mention is not None and first.text == mention.letters
        return mention if mention and is_option and mention.start not in self.listing.listed else None

    def headings(self) -> list[Mention]:
        """Find lines that begin with a letter, followed by its option or a remark."""
        counted = self.counted
        headings = [mention for mention in counted if mention.is_heading and mention.letters in self.valid]
        headings = headings[-_MOST_HEADINGS:]
        return [
            mention if mention.has_words else self.check_remark(mention)
            for mention in headings
            if mention.has_words or not self.has_company(mention, counted)
        ]

    def line_end(self, mention: Mention) -> int:
        end = self.text.find("\n", mention.end)
        return len(self.text) if end < 0 else end

    def has_company(self, heading: Mention, counted: Sequence[Mention]) -> bool:
        """Tell whether the line of a heading chooses another letter, too; describing one is not choosing it."""
        end = self.line_end(heading)
        return any(
            heading.end <= mention.start < end
            and mention.letters != heading.letters
            and mention.start not in self.described
            for mention in counted
        )

    @cached_property
    def described(self) -> frozenset[int]:
        """The places of options that are only described: "A is the color of the mast"."""
        return frozenset(
            mention.start
            for clause in self.clauses
            for place, mention in clause.mentions.items()
            if statements.DESCRIBED_AFTER.match(clause.text, place + len(mention.letters))
        )

    def check_remark(self, heading: Mention) -> Mention:
        """Take back a letter whose remark names another option: "B. It is green". "A: It is green" is an answer."""
        remark = self.text[heading.end : self.line_end(heading)]
        tokens, mentions = find_words(remark, self.options)
        named = observe(read_clauses(tokens, mentions), remark, committed=True)
        if named is None or named.letters == heading.letters or len(remark.split()) > _LONGEST_REMARK_WORDS:
            return heading
        is_question_and_answer = heading.letters == "A" and remark.startswith(":")
        return heading._replace(
            letters=named.letters if is_question_and_answer else f"{heading.letters}/{named.letters}"
        )

    def named(self) -> list[Mention]:
        """Find letters after the word option."""
        counted = self.counted
        return [
            clause.mentions[match.start("letter")]
            for clause in self.clauses
            for pattern in (statements.NAMED, statements.NAMED_EAST)
            for match in pattern.finditer(clause.text)
            if clause.mentions[match.start("letter")] in counted
        ]

    def alone(self, *, committed: bool) -> list[Mention]:
        """Find single capitals; in a long text only where it ends with them."""
        found = [mention for mention in self.counted if set(mention.letters) <= {*self.valid, "/"}]
        if not found or committed or len({mention.letters for mention in found}) > 1:
            return found
        ends_on_it = not re.search(r"\w", self.text[found[-1].end :])
        opens_with_it = not re.search(r"\w", self.text[: found[0].start])
        is_short = len(self.text.split()) <= 8
        if ends_on_it or (is_short and opens_with_it):
            return found
        return [mention for mention in found if mention.has_words or (is_short and self.is_quoted(mention))]

    def is_quoted(self, mention: Mention) -> bool:
        """Tell whether punctuation, or a script without blanks, sets the letter apart."""
        before, after = self.text[max(0, mention.start - 1) : mention.start], self.text[mention.end : mention.end + 1]
        return not (before.isspace() or (before.isascii() and before.isalpha())) or not after.isascii()

    def stated_words(self) -> Choice | None:
        """Find the option whose words are called the answer."""
        claim = decide(find_claims(self.spoken, self.listing.listed, strong_only=True))
        return self.choice(claim.mention, "phrase") if claim else None

    def observed_words(self, *, committed: bool) -> Choice | None:
        return self.choice(observe(self.spoken, self.text, committed=committed), "option_text")

    @cached_property
    def spoken(self) -> list[Clause]:
        """The clauses of the text, with the words of options for mentions."""
        tokens, mentions = find_words(self.text, self.options)
        of_letters = {
            place for mention in self.mentions if mention.has_words for place in range(mention.start, mention.words_end)
        }
        said = {
            index: mention
            for index, mention in mentions.items()
            if mention.start >= self.listing.end and mention.start not in of_letters
        }
        return read_clauses(tokens, said)

    def choice(self, mention: Mention | None, rule: str) -> Choice | None:
        if mention is None or "/" in mention.letters:
            return None
        letter = mention.letters if mention.letters in self.valid else None
        return Choice(letter, rule, mention.start, mention.end)


def read_opening(text: str, options: Sequence[str]) -> Choice | None:
    """Read the option with which a text opens that was cut off later: its first line is one."""
    reader = _Reader(text, options)
    opening = reader.opening()
    return reader.choice(opening, "letter") if opening else None
