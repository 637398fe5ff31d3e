"""In which words a question is asked: prompts, the layout of the options, and what stands after them.

Training draws each question's words (`draw_style`): the shipped prompt sets and the trained paraphrases in
wordings.toml, some of these with words dropped, shuffled or added; every layout in which this project and its
neighbors write options; closing sentences, and lines of noise. `UNTRAINED` are further paraphrases, for tests alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p2r.benchmarks.needles import to_sample
from p2r.benchmarks.needles.questions import Question
from p2r.benchmarks.needles.scene import PATTERNS, Scene
from p2r.prompts import PromptSet, load_prompt_set
from p2r.types import LETTERS, Sample

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


class Layout(NamedTuple):
    """How options follow a question: a heading, then each letter between two signs, its text, and what separates."""

    heading: str
    before: str
    after: str
    between: str


class Mark(NamedTuple):
    """Where an option is in the question's text: its letter, and the start and end of its words."""

    letter: int
    start: int
    end: int


LAYOUTS: Mapping[str, Layout] = {
    "headed": Layout("\nOptions:\n", "", ". ", "\n"),  # question_text: needles, HR-Bench, folders; VLMEvalKit
    "vstar": Layout("\n", "(", ") ", "\n"),  # p2r's V*
    "mme": Layout("\nOptions:\n", "(", ") ", "\n"),  # p2r's MME-RealWorld
    "lmms": Layout("\n", "", ". ", "\n"),  # lmms-eval's V* and HR-Bench
    "lmms_mme": Layout("\nThe choices are listed below:\n", "(", ") ", "\n"),  # lmms-eval's MME-RealWorld
    "bracket": Layout("\n", "", ") ", "\n"),
    "inline": Layout(" ", "(", ") ", " "),
    "inline_dot": Layout(" ", "", ". ", ", "),
    "inline_headed": Layout("\nOptions: ", "(", ") ", ", "),
}
LAYOUT_WEIGHTS = (0.2, 0.17, 0.11, 0.13, 0.06, 0.11, 0.08, 0.07, 0.07)
UNTRAINED_LAYOUTS: Mapping[str, Layout] = {
    "colon": Layout("\n", "", ": ", "\n"),
    "square": Layout("\n", "[", "] ", "\n"),
    "choices": Layout("\nChoices:\n", "", ") ", "\n"),
    "semicolon": Layout("\nOptions: ", "(", ") ", "; "),
}
RELEASE, PAPER, PEBR_R1 = (load_prompt_set(name) for name in ("release", "paper", "pebr_r1"))
SHIPPED = (RELEASE, PAPER, PEBR_R1)


@dataclass(frozen=True, slots=True)
class Wordings:
    """Paraphrases: texts by the name of the prompt they stand for, closing sentences, and the words of the system."""

    texts: Mapping[str, Sequence[str]]

    def all_texts(self) -> list[str]:
        return [text for texts in self.texts.values() for text in texts]

    def pick(self, number: int) -> PromptSet:
        """A whole set: the paraphrase of this number of every prompt, counted round."""
        chosen = {key: texts[number % len(texts)] for key, texts in self.texts.items() if key in RELEASE.texts}
        chosen["reasoner_without_evidence"] = chosen["thinking"]
        chosen["system"] = self.texts["systems"][number % len(self.texts["systems"])]
        return replace(RELEASE, name=f"paraphrase {number + 1}", texts={**RELEASE.texts, **chosen})

    def draw(self, rng: np.random.RandomState) -> PromptSet:
        """A set whose prompts are drawn one by one."""
        chosen = {key: texts[rng.randint(len(texts))] for key, texts in self.texts.items() if key in RELEASE.texts}
        if rng.rand() < DISTURBED:
            chosen = {key: disturb(rng, text) for key, text in chosen.items()}
        chosen["reasoner_without_evidence"] = chosen["thinking"]
        return replace(RELEASE, texts={**RELEASE.texts, **chosen})


_BOTH = tomllib.loads(Path(__file__).with_name("wordings.toml").read_text(encoding="utf-8"))
TRAINED, UNTRAINED = (Wordings(_BOTH[name]) for name in ("trained", "untrained"))
CLOSINGS: Sequence[str] = TRAINED.texts["closings"]
KNOWN_WORDS = sorted(set(re.findall(r"[a-z]+", " ".join(TRAINED.all_texts()))))
DISTURBED = 0.4


class Style(NamedTuple):
    """The words around a question."""

    prompts: PromptSet
    layout: Layout = LAYOUTS["headed"]
    closing: str = ""


def draw_style(rng: np.random.RandomState) -> Style:
    """The release's words in a fifth of the questions, the paper's in an eighth, else a paraphrase."""
    kind = rng.rand()
    prompts = RELEASE if kind < 0.2 else PAPER if kind < 0.325 else TRAINED.draw(rng)
    layout = list(LAYOUTS.values())[rng.choice(len(LAYOUTS), p=LAYOUT_WEIGHTS)]
    kind, closing = rng.rand(), ""
    if kind < 0.3:
        closing = CLOSINGS[rng.randint(len(CLOSINGS))]
    elif kind < 0.4:
        closing = " ".join(KNOWN_WORDS[rng.randint(len(KNOWN_WORDS))] for _ in range(rng.randint(3, 12)))
    return Style(prompts, layout, closing)


def disturb(rng: np.random.RandomState, template: str) -> str:
    """Drop some words, put words in another order, or add some; placeholders, tags and line ends stay."""
    pieces = re.findall(r"\{\w+\}|</?\w+>|\s|[^\s{}<>]+|.", template)
    places = [k for k, piece in enumerate(pieces) if piece.strip() and piece[0] not in "{<"]
    kind = rng.randint(3)
    if kind == 0:
        for k in places:
            if rng.rand() < 0.15:
                pieces[k] = ""
    elif kind == 1:
        for k, piece in zip(places, [pieces[places[i]] for i in rng.permutation(len(places))], strict=True):
            pieces[k] = piece
    else:
        for k in places:
            if rng.rand() < 0.2:
                pieces[k] += " " + KNOWN_WORDS[rng.randint(len(KNOWN_WORDS))]
    return re.sub(" {2,}", " ", "".join(pieces))


def state_question(question: Question, layout: Layout, closing: str = "") -> tuple[str, list[Mark]]:
    """The question with its options in this layout, and where they are."""
    text, marks = question.text + (layout.heading if question.options else ""), list[Mark]()
    for k, option in enumerate(question.options):
        text += (layout.between if k else "") + layout.before
        start = len(text) + 1 + len(layout.after)
        marks.append(Mark(len(text), start, start + len(option)))
        text += LETTERS[k] + layout.after + option
    return text + ("\n" + closing if closing else ""), marks


def word_sample(scene: Scene, question: Question, style: Style, name: str = "") -> tuple[Sample, list[Mark]]:
    """The question in these words, and where its options are in it."""
    text, marks = state_question(question, style.layout, style.closing)
    sample = replace(to_sample(scene, question, name), question=text, options_in_question=bool(question.options))
    return (replace(sample, answer_form="number") if is_count(question) else sample), marks


def ask_for_count(rng: np.random.RandomState, scene: Scene, pair: Question) -> Question:
    """A question with a number for an answer, about the objects of a pair: how many of them have this pattern?"""
    one, two = (scene.objects[k] for k in pair.subjects)
    pattern = (one.pattern, two.pattern)[rng.randint(2)] if rng.rand() < 0.7 else PATTERNS[rng.randint(len(PATTERNS))]
    answer = str((one.pattern == pattern) + (two.pattern == pattern))
    text = f"How many of the {one.name} and the {two.name} are {pattern}?"
    return Question("pair", text, pair.subjects, pair.mentions, answer, (), 1 / 3)


def is_count(question: Question) -> bool:
    return question.text.startswith("How many")
