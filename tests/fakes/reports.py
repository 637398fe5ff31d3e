"""Samples, traces and runs for reports, and a reader of their pages."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

from PIL import Image

from p2r.dialogue import Budget
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.evidence import plan_crops
from p2r.images.load import MemoryImage
from p2r.report.evaluation.sections import Section
from p2r.report.kit.page import Headline
from p2r.runs.evaluation import RunSettings, make_run
from p2r.types import Answer, Box, Completion, Perception, Sample, Trace, Verdict

BUDGET = Budget(factor=32, min_pixels=1024, max_pixels=64 * 1024)
GOLD = Box(x1=100, y1=100, x2=300, y2=300, label="sail")
ELSEWHERE = Box(x1=700, y1=700, x2=900, y2=900, label="mast")
HEADLINE = Headline("One look, or two?", "It answers more.", (("Model", "scripted"),), "Made by hand.")


def make_sample(id: str, question: str = "What is on the sail?") -> Sample:
    return Sample(
        id=id,
        image=MemoryImage(Image.new("RGB", (640, 480), "navy"), id),
        question=question,
        options=("a star", "a fish"),
        answer_form="choice",
        target="A",
        gold_boxes=(GOLD,),
        category="attribute" if id in "ab" else "pair",
        chance=0.5,
    )


def make_trace(
    sample: Sample,
    *,
    letter: str | None = "A",
    boxes: tuple[Box, ...] = (),
    reply: str | None = None,
    image_wh: tuple[int, int] = (640, 480),
) -> Trace:
    text = reply if reply is not None else f"<answer>{letter}</answer>"
    span = (text.index(letter), text.index(letter) + 1) if letter and letter in text else None
    return Trace(
        sample_id=sample.id,
        image=sample.image.uri,
        question=sample.question,
        options=sample.options,
        answer_form=sample.answer_form,
        target=sample.target,
        perception=Perception(source="test", boxes=boxes),
        evidence=plan_crops(image_wh, boxes),
        reasoning=Completion(text=text, finish_reason="stop", model="scripted"),
        answer=Answer(text=letter, letter=letter, span=span),
        verdict=Verdict(correct=letter == "A", score=float(letter == "A"), judge="choice"),
    )


def make_section(
    samples: list[Sample],
    direct: list[Trace],
    own: list[Trace],
    *,
    budget: Budget | None = BUDGET,
    benchmark: str = "needles",
) -> Section:
    """Two runs of the same samples, of which the second looks."""
    by_mode = {"direct": direct, "p2r": own}
    runs = [
        score_run(make_run(samples, traces, RunSettings(benchmark=benchmark, mode=mode), wall_s=2.0))
        for mode, traces in by_mode.items()
    ]
    images = {sample.id: sample.image for sample in samples}
    return Section(benchmark, tuple(runs), ("direct", "own boxes"), 1, images, budget=budget)


def answer_all(samples: list[Sample], direct: str, own: str, boxes: tuple[Box, ...] = (GOLD,)) -> Section:
    return make_section(
        samples,
        [make_trace(s, letter=d) for s, d in zip(samples, direct, strict=True)],
        [make_trace(s, letter=o, boxes=boxes) for s, o in zip(samples, own, strict=True)],
    )


class Collector(HTMLParser):
    """Every tag with its attributes, and the texts of one tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def make_scored(benchmark: str, mode: str = "p2r", *, image: str = "gone.png", letters: str = "AB") -> ScoredRun:
    """A run whose images are not where its traces say."""
    samples = [replace(make_sample(str(k), f"What is {k}?"), cycle=k) for k in range(len(letters))]
    traces = [
        make_trace(sample, letter=letter).model_copy(update={"image": image})
        for sample, letter in zip(samples, letters, strict=True)
    ]
    return score_run(make_run(samples, traces, RunSettings(benchmark=benchmark, mode=mode)))
