"""Cut a text into clauses, and tell what each says of an option.

"**Answer:** (B) blue, because the flag isn't red. Is it A?" has the clauses "answer : B", "because the flag isn't red"
and the question "is it A": plain words in lower case, each mention of an option one capital.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from p2r.answers.phrases import moods, statements
from p2r.answers.phrases.pattern import word_set
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
    opens_part: a semicolon is before it.
    opens_line, ends_line: whether lines begin and end with it.
    """

    text: str
    mentions: Mapping[int, Mention]
    sentence: int
    opens_line: bool
    opens_part: bool = False
    ends_line: bool = False
    is_asked: bool = False
    is_affirmed: bool = False
    kind: Mood = field(default=Mood.STATEMENT)

    def is_denied(self, place: int, end: int) -> bool:
        """Tell whether what is said of the mention at `place` is that it is wrong."""
        before = self.text[max(0, place - _FARTHEST_CHARS) : place]
        is_denied_after = bool(moods.DENIED_AFTER.match(self.text, end))
        if others := statements.ALL_EXCEPT.search(before):
            return bool(others["all"]) != is_denied_after
        if is_denied_after or not moods.NEGATION.search(before):
            return is_denied_after
        return bool(moods.NEGATION.search(moods.NO_NEGATION.sub(" ", before)))

    def excepts(self) -> bool:
        """Tell whether it speaks of all options except one."""
        return any(
            statements.ALL_EXCEPT.search(self.text[max(0, place - _FARTHEST_CHARS) : place]) for place in self.mentions
        )

    @property
    def is_explanation(self) -> bool:
        return bool(moods.EXPLANATION.match(self.text))

    def counted(self) -> Iterator[tuple[int, Mention]]:
        """Yield the mentions that may be a choice, with their places."""
        if self.kind is not Mood.STATEMENT:
            return
        for place, mention in self.mentions.items():
            if not self.is_denied(place, place + len(mention.letters)):
                yield place, mention


def cut_clauses(tokens: Sequence[Token], mentions: Mapping[int, Mention]) -> list[Clause]:
    """Cut tokens into clauses; all are statements as yet."""
    return list(_Cutter(tokens, mentions).cut())


# How far before an option a negation may stand.
_FARTHEST_CHARS = 120
_SENTENCE_END = frozenset(".!。！…")
_QUESTION_END = frozenset("?？")
_CLAUSE_END = frozenset(",;，；、()（）—–→⇒|·•")
_LINKS = frozenset(":：=")
_JOINING = word_set(", 、 / & + or and nor oder und ou et o y e и или 和 或 与 与选项 和选项 或者")
_ARTICLES = word_set("a an the")
_ABBREVIATIONS = word_set("e.g i.e vs etc approx fig")


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
        self.opens_part = False
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
            if not moods.GOES_ON.search(" ".join(self.words)):
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
                self.opens_part = self.opens_part or text in ";；"
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
        east = moods.OPENERS_EAST.search(lower)
        opens = (lower in moods.OPENERS and not self.is_exception(lower) and self.words != ["only"]) or (
            lower in moods.LONG_OPENERS and self.opens_at_length(index)
        )
        if opens or (self.found and lower in moods.CONTRASTS and self.contrasts(index)):
            yield from self.end()
        elif east:
            while east:
                if lower[: east.start()]:
                    self.add(lower[: east.start()])
                yield from self.end()
                lower = lower[east.start() :]
                east = moods.OPENERS_EAST.search(lower, 1)
        self.add(lower)

    def add(self, word: str, mention: Mention | None = None) -> None:
        if mention:
            self.found[self.length] = mention
        self.words.append(word)
        self.length += len(word) + 1

    def end(self, *, ends_line: bool = False, is_asked: bool = False, ends_sentence: bool = False) -> Iterator[Clause]:
        if self.words:
            text = " ".join(self.words)
            self.last = Clause(text, self.found, self.sentence, self.opens_line, self.opens_part, is_asked=is_asked)
            yield self.last
            self.words, self.found, self.length = [], {}, 0
            self.opens_line = self.opens_part = False
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

    def opens_at_length(self, index: int) -> bool:
        """Tell whether several words open a clause: "only if"; "B assuming", but not "I am assuming"."""
        if self.tokens[index].lower in moods.OPENERS_AFTER_OPTION and self.words and self.words[-1].isupper():
            return True
        return bool(moods.OPENS_AT_LENGTH.match(" ".join(token.lower for token in self.tokens[index : index + 3])))

    def is_exception(self, lower: str) -> bool:
        """Tell whether "but" leaves out an option: "everything but B", "any option but B"."""
        return lower == "but" and bool(moods.ALL_OR_NONE.search(" ".join(self.words[-5:])))

    def contrasts(self, index: int) -> bool:
        """Tell whether another option follows: "B, not A"; in "B is not as likely as A" the word belongs to B."""
        if self.words[-1] in moods.BEFORE_OWN_NOT and self.tokens[index].lower == "not":
            return False
        return any(place in self.mentions for place in range(index + 1, index + 5))

    def is_heading_mark(self, index: int) -> bool:
        """Tell whether a full stop only sets off the letter that opens a sentence: "A. The flag is red"."""
        is_first = self.last is None or self.last.sentence != self.sentence
        is_letter = len(self.words) == 1 and bool(self.found)
        return self.at(index) == "." and is_first and is_letter and self.at(index + 1) != "\n"

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
            return index + 1 in self.mentions and self.at(index + 2) in ")）"
        if self.at(index) in ")）":
            return bool(self.found) and len(self.words) > 0 and self.words[-1].isupper()
        return False

    def is_dash(self, index: int) -> bool:
        before, token = self.tokens[index - 1] if index else None, self.tokens[index]
        after = self.tokens[index + 1] if index + 1 < len(self.tokens) else None
        return before is None or after is None or before.end < token.start or after.start > token.end
