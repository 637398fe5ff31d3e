"""Cut a text into clauses, and tell what kind each is: only a statement can choose an option.

"**Answer:** (B) blue, because the flag isn't red. Is it A?" has the clauses "answer : B", "because the flag isn't red"
and the question "is it A": plain words in lower case, each mention of an option one capital.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from p2r.answers import phrases
from p2r.answers.tokens import Mention, Token


class Mood(Enum):
    """The act that a clause performs; only in a statement is a letter chosen."""

    STATEMENT = "statement"
    CONDITION = "condition"
    QUESTION = "question"
    COMPARISON = "comparison"


@dataclass(slots=True)
class Clause:
    """A clause with the mentions in it, by their place in `text`.

    sentence: the number of the sentence it belongs to.
    is_asked: its sentence ends in a question mark.
    is_affirmed: it asks, and the next one says yes.
    opens_line, ends_line: whether lines begin and end with it.
    """

    text: str
    mentions: Mapping[int, Mention]
    sentence: int
    opens_line: bool
    ends_line: bool = False
    is_asked: bool = False
    is_affirmed: bool = False
    kind: Mood = field(default=Mood.STATEMENT)

    def is_denied(self, place: int, end: int) -> bool:
        """Tell whether what is said of the mention at `place` is that it is wrong."""
        before = self.text[max(0, place - _FARTHEST_CHARS) : place]
        is_denied_after = bool(phrases.DENIED_AFTER.match(self.text, end))
        if others := phrases.ALL_EXCEPT.search(before):
            return bool(others["all"]) != is_denied_after
        if is_denied_after or not phrases.NEGATION.search(before):
            return is_denied_after
        return bool(phrases.NEGATION.search(phrases.NO_NEGATION.sub(" ", before)))

    def excepts(self) -> bool:
        """Tell whether it speaks of all options except one."""
        return any(
            phrases.ALL_EXCEPT.search(self.text[max(0, place - _FARTHEST_CHARS) : place]) for place in self.mentions
        )

    @property
    def is_explanation(self) -> bool:
        return bool(phrases.EXPLANATION.match(self.text))

    def counted(self) -> Iterator[tuple[int, Mention]]:
        """Yield the mentions that may be a choice, with their places."""
        if self.kind is not Mood.STATEMENT:
            return
        for place, mention in self.mentions.items():
            if not self.is_denied(place, place + len(mention.letters)):
                yield place, mention


def read_clauses(tokens: Sequence[Token], mentions: Mapping[int, Mention]) -> list[Clause]:
    """Cut tokens into clauses, with the kind of each."""
    clauses = list(_Cutter(tokens, mentions).cut())
    sentences: dict[int, list[Clause]] = {}
    for clause in clauses:
        sentences.setdefault(clause.sentence, []).append(clause)
    for sentence in sentences.values():
        _classify(sentence)
    _answer_questions(clauses)
    return clauses


def _answer_questions(clauses: Sequence[Clause]) -> None:
    """Take a question and the yes behind it for one statement: "Is it red? No. Blue? Yes."."""
    for clause, answer in itertools.pairwise(clauses):
        if clause.is_asked and clause.kind is Mood.QUESTION and phrases.YES.search(answer.text) and not answer.mentions:
            clause.kind, clause.sentence, clause.is_affirmed = Mood.STATEMENT, answer.sentence, True


def _classify(sentence: Sequence[Clause]) -> None:
    is_asked = sentence[-1].is_asked
    is_bound = False
    before: Clause | None = None
    for place, clause in enumerate(sentence):
        if phrases.ENDS_CONDITION.match(clause.text):
            is_bound = False
        if is_bound:
            clause.kind = Mood.CONDITION
        if phrases.CONDITION.search(clause.text):
            clause.kind = Mood.CONDITION
            if not phrases.RHETORICAL.search(clause.text):
                if before is not None and not phrases.ENDS_CONDITION.match(before.text):
                    before.kind = Mood.CONDITION
                is_bound = True
        elif clause.mentions and clause.kind is Mood.STATEMENT:
            ends_asked = is_asked and len(sentence) - place <= _MOST_ASKED
            if ends_asked or phrases.QUESTION.search(clause.text):
                clause.kind = Mood.QUESTION
            elif phrases.COMPARISON.search(clause.text) and not clause.excepts():
                clause.kind = Mood.COMPARISON
        if len(clause.text) >= _LEAST_CHARS:
            before = clause


# How far before an option a negation may stand.
_FARTHEST_CHARS = 120
# What is shorter is a conjunction, not a clause that a condition may bind.
_LEAST_CHARS = 5
# A question is the end of its sentence: at most so many clauses.
_MOST_ASKED = 4
_SENTENCE_END = frozenset(".!。！…")
_QUESTION_END = frozenset("?？")
_CLAUSE_END = frozenset(",;，；、()（）—–→⇒|·•")
_LINKS = frozenset(":：=")
_JOINING = phrases.word_set(", 、 / & + or and nor oder und ou et o y e и или 和 或 与 与选项 和选项 或者")
_ARTICLES = phrases.word_set("a an the")
_ABBREVIATIONS = phrases.word_set("e.g i.e vs etc approx fig")


class _Cutter:
    """Writes tokens as clauses."""

    def __init__(self, tokens: Sequence[Token], mentions: Mapping[int, Mention]) -> None:
        self.tokens = tokens
        self.mentions = mentions
        self.words: list[str] = []
        self.length = 0
        self.found: dict[int, Mention] = {}
        self.sentence = 0
        self.opens_line = True
        self.last: Clause | None = None

    def cut(self) -> Iterator[Clause]:
        index = 0
        while index < len(self.tokens):
            mention = self.mentions.get(index)
            if mention:
                joined, index = self.join(index, mention)
                self.add(joined.letters, joined)
                continue
            yield from self.read(index)
            index += 1
        yield from self.end(ends_line=True)

    def read(self, index: int) -> Iterator[Clause]:
        """Take a token that is not a mention: a word, or a mark that may end the clause."""
        text, lower = self.tokens[index].text, self.tokens[index].lower
        if text == "\n":
            if not phrases.GOES_ON.search(" ".join(self.words)):
                yield from self.end(ends_line=True, ends_sentence=True)
        elif text[0] in _SENTENCE_END or text in ("->", "=>"):
            if self.is_heading_mark(index):
                yield from self.end()
            elif self.ends_sentence(index):
                yield from self.end(ends_sentence=True)
        elif text in _QUESTION_END:
            yield from self.end(is_asked=True, ends_sentence=True)
        elif text in _CLAUSE_END:
            if not self.is_bracket_of_mention(index):
                yield from self.end()
        elif text in _LINKS:
            if text == "=" and index and self.tokens[index - 1].text[0].isdigit():
                yield from self.end()
                self.add("=")
            elif self.words in (["no"], ["yes"]):
                yield from self.end()
            elif self.words and self.words[-1] != ":":
                self.add(":")
        elif text[0].isalnum():
            yield from self.take_word(index, lower)
        elif text == "-" and self.is_dash(index):
            yield from self.end()

    def take_word(self, index: int, lower: str) -> Iterator[Clause]:
        east = phrases.OPENERS_EAST.search(lower)
        opens = lower in phrases.OPENERS and not self.is_exception(lower)
        if opens or (self.found and lower in phrases.CONTRASTS and self.mentioned_next(index)):
            yield from self.end()
        elif east:
            while east:
                if lower[: east.start()]:
                    self.add(lower[: east.start()])
                yield from self.end()
                lower = lower[east.start() :]
                east = phrases.OPENERS_EAST.search(lower, 1)
        self.add(lower)

    def add(self, word: str, mention: Mention | None = None) -> None:
        if mention:
            self.found[self.length] = mention
        self.words.append(word)
        self.length += len(word) + 1

    def end(self, *, ends_line: bool = False, is_asked: bool = False, ends_sentence: bool = False) -> Iterator[Clause]:
        if self.words:
            self.last = Clause(" ".join(self.words), self.found, self.sentence, self.opens_line, is_asked=is_asked)
            yield self.last
            self.words, self.found, self.length = [], {}, 0
            self.opens_line = False
        if ends_sentence:
            self.sentence += 1
        if ends_line:
            self.opens_line = True
            if self.last:
                self.last.ends_line = True

    def at(self, index: int) -> str:
        return self.tokens[index].text if 0 <= index < len(self.tokens) else "\n"

    def join(self, index: int, mention: Mention) -> tuple[Mention, int]:
        """Join the options of a list, such as "A, B or C", to one mention."""
        letters, after, has_word, last = mention.letters, mention.next, False, mention
        while following := self.next_in_list(after):
            place, joined_by_word = following
            if has_word and not joined_by_word:
                break
            has_word = has_word or joined_by_word
            last = self.mentions[place]
            letters, after = f"{letters}/{last.letters}", last.next
        if last is mention:
            return mention, mention.next
        is_pair = letters.count("/") == 1 and not has_word
        is_contrast = bool(self.words) and self.words[-1] in ("not", "no", "不是")
        if is_pair and (is_contrast or self.at(after) not in "\n.!?;。，,)" or mention.has_words):
            return mention, mention.next
        return mention._replace(letters=letters, end=last.end, next=after), after

    def next_in_list(self, index: int) -> tuple[int, bool] | None:
        """Return the index of the option that goes on a list at `index`, and whether a word joins it."""
        has_word = False
        for place in range(index, min(index + 5, len(self.tokens))):
            if place in self.mentions:
                return (place, has_word) if place > index else None
            lower = self.tokens[place].lower
            if lower in _JOINING:
                has_word = has_word or lower not in (",", "+")
            elif lower in _ARTICLES and self.tokens[place - 1].lower in ("or", "nor"):
                continue
            elif lower not in ("option", "(", "**", "*", '"', "'", ")", "[", "选项"):
                return None
        return None

    def is_exception(self, lower: str) -> bool:
        """Tell whether "but" leaves out an option: "everything but B"."""
        return lower == "but" and bool(self.words) and self.words[-1] in phrases.ALL_OR_NONE

    def mentioned_next(self, index: int) -> bool:
        return any(place in self.mentions for place in range(index + 1, index + 5))

    def is_heading_mark(self, index: int) -> bool:
        """Tell whether a full stop only sets off the letter that opens a sentence: "A. The flag is red"."""
        return self.at(index) == "." and len(self.words) == 1 and bool(self.found) and self.at(index + 1) != "\n"

    def ends_sentence(self, index: int) -> bool:
        token, after = self.tokens[index], self.tokens[index + 1] if index + 1 < len(self.tokens) else None
        if token.text in ("->", "=>"):
            return True
        if self.words and (self.words[-1] in _ABBREVIATIONS or (len(self.words[-1]) == 1 and self.words[-1].islower())):
            before = self.tokens[index - 1]
            return before.end != token.start or self.words[-1] not in "eg" or after is None
        return after is None or after.start > token.end or not after.text[0].isalnum() or not token.text.isascii()

    def is_bracket_of_mention(self, index: int) -> bool:
        if self.at(index) in "(（":
            return index + 1 in self.mentions and self.at(self.mentions[index + 1].next) in ")）"
        if self.at(index) in ")）":
            return bool(self.found) and len(self.words) > 0 and self.words[-1].isupper()
        return False

    def is_dash(self, index: int) -> bool:
        before, token = self.tokens[index - 1] if index else None, self.tokens[index]
        after = self.tokens[index + 1] if index + 1 < len(self.tokens) else None
        return before is None or after is None or before.end < token.start or after.start > token.end
