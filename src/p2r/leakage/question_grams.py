"""Find the questions of one set in another by the share of word n-grams they have in common.

Questions are compared without their options, in lower case, without punctuation. A question of fewer than NUM_WORDS
words is one gram. The score is the containment: the share of the known question's grams that the new one has. So a
question inside a longer text is found as well.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from p2r.types import Sample

NUM_WORDS = 5
"""The number of words in a gram."""

LEAST_CONTAINMENT = 0.8

_OPTION_LINE = re.compile(r"^\s*\(?[A-Z][).:]\s|^\s*options:?\s*$", re.IGNORECASE)
_INLINE_OPTIONS = re.compile(r"\(A\).*\(B\).*", re.DOTALL)
_WORD = re.compile(r"\w+")


class QuestionIndex:
    """Known questions by number, in the order of `samples`."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._by_gram: dict[str, list[int]] = defaultdict(list)
        self._num_grams: list[int] = []
        for index, sample in enumerate(samples):
            grams = make_grams(sample)
            self._num_grams.append(len(grams))
            for gram in grams:
                self._by_gram[gram].append(index)

    def find(self, new: Sample) -> list[tuple[int, float]]:
        """Return (number, containment) of every known question that `new` contains."""
        common = Counter(index for gram in make_grams(new) for index in self._by_gram.get(gram, ()))
        scores = [(index, count / self._num_grams[index]) for index, count in sorted(common.items())]
        return [(index, score) for index, score in scores if score >= LEAST_CONTAINMENT]


def make_grams(sample: Sample) -> frozenset[str]:
    """Return the n-grams of a question's words; none for a question without words."""
    words = normalize_question(sample).split()
    if not words:
        return frozenset()
    last = max(1, len(words) - NUM_WORDS + 1)
    return frozenset(" ".join(words[k : k + NUM_WORDS]) for k in range(last))


def normalize_question(sample: Sample) -> str:
    """Return the question's words in lower case, without the options if it states them."""
    text = sample.question
    if sample.options_in_question:
        text = "\n".join(line for line in text.split("\n") if not _OPTION_LINE.match(line))
        text = _INLINE_OPTIONS.sub("", text) or text
    return " ".join(_WORD.findall(text.casefold()))
