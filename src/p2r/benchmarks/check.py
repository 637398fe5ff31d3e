"""Check that a benchmark is fit to be run: every right answer, given as a model would give it, has to score 1.0.

For each sample an ideal reply is made and read back the way an evaluation does: by the robust extractor, by the one of
the authors' release, for some benchmarks by their own scripts, and judged. Boxes go through the box parser and have to
come out as they were. Every image is decoded in full.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from p2r.answers import OWN_SCORERS, extract_answer, read_release
from p2r.benchmarks.base import Benchmark, Facts, ScoredBy, name_fields
from p2r.benchmarks.hrbench import find_broken_rotations
from p2r.boxes import parse_boxes
from p2r.errors import JudgeError, P2RError
from p2r.images.budget import is_too_thin
from p2r.judges import BoxJudge, rule_for
from p2r.prompts import question_text
from p2r.types import Answer, ImageSource, Sample


@dataclass(frozen=True, slots=True)
class CheckReport:
    """A report of what was proved, and what was not.

    num_answers: samples for which the right answer scored 1.0 with every scorer.
    num_boxes: gold boxes that came back as they were.
    num_images: images decoded in full.
    num_unjudged: samples that cannot be scored, because they have no right answer or gold box.
    problems: sentences; () when the benchmark is fit to be run.
    num_with_key_words: samples that have key words.
    differences, left_out: what the loader reported, in sentences.
    """

    name: str
    num_samples: int
    num_answers: int
    num_boxes: int
    num_images: int
    num_unjudged: int
    problems: tuple[str, ...]
    differences: tuple[str, ...]
    left_out: tuple[str, ...]
    num_with_key_words: int = 0

    @property
    def passed(self) -> bool:
        return not self.problems


def check_benchmark(
    benchmark: Benchmark, *, decode_images: bool = True, on_progress: Callable[[int], None] | None = None
) -> CheckReport:
    """Prove what can be proved without a model. Images are decoded one at a time.

    Args:
        decode_images: False skips the images.
        on_progress: called with the number of samples done so far.
    """
    problems: list[str] = []
    num_answers = num_boxes = num_images = num_unjudged = 0
    decoded: set[str] = set()
    for count, sample in enumerate(benchmark, start=1):
        found = [*_check_text(sample), *_check_boxes(sample)]
        num_boxes += len(sample.gold_boxes)
        if _is_judged(sample, benchmark.scored_by):
            wrong = list(_check_answer(sample, benchmark.facts))
            num_answers += not wrong
            found += wrong
        else:
            num_unjudged += 1
        for image in (sample.image, sample.crop) if decode_images else ():
            if image is None or image.uri in decoded:
                continue
            broken = list(_check_image(image))
            decoded.add(image.uri)
            num_images += not broken
            found += broken
        problems += [f"{sample.id}: {problem}" for problem in found]
        if on_progress is not None:
            on_progress(count)
    return CheckReport(
        name=benchmark.name,
        num_samples=len(benchmark),
        num_answers=num_answers,
        num_boxes=num_boxes,
        num_images=num_images,
        num_unjudged=num_unjudged,
        problems=(*_check_whole(benchmark, num_unjudged), *problems, *find_broken_rotations(benchmark)),
        differences=benchmark.differences,
        left_out=tuple(f"{bad.place}: {bad.reason}" for bad in benchmark.left_out),
        num_with_key_words=sum(bool(sample.key_words) for sample in benchmark),
    )


def _check_whole(benchmark: Benchmark, num_unjudged: int) -> Iterable[str]:
    if num_unjudged == len(benchmark) > 0:
        what = "gold box" if benchmark.scored_by == "box" else "right answer"
        yield f"no question has a {what}, so nothing can be scored"


def _is_judged(sample: Sample, scored_by: ScoredBy) -> bool:
    return bool(sample.gold_boxes) if scored_by == "box" else sample.target is not None


def _check_text(sample: Sample) -> Iterable[str]:
    try:
        text = question_text(sample)
    except P2RError as error:
        yield error.message
        return
    missing = [option for option in sample.options if option not in text]
    if missing:
        yield f"the prompt does not state the option {missing[0]!r}"


def _check_answer(sample: Sample, facts: Facts) -> Iterable[str]:
    """Yield a sentence for each scorer that misjudges the ideal reply."""
    if facts.scored_by == "box":
        score = BoxJudge().compare(sample, Answer(text=None), sample.gold_boxes).score
        if score != 1.0:
            yield f"its gold box scores {score}"
        return
    target, reply = sample.target or "", make_ideal_reply(sample)
    answers = {"robust": extract_answer(reply, sample.answer_form, sample.options)}
    if sample.answer_form == "choice":
        answers["release"] = read_release(reply, letters=facts.letters)
        if facts.aggregation == "mme":
            answers["mme_official"] = extract_answer(target, "choice", sample.options, scorer="mme_official")
        for own in OWN_SCORERS.get(facts.name, ()):
            answers[own] = extract_answer(reply, "choice", sample.options, scorer=own)
    for scorer, answer in answers.items():
        try:
            score = rule_for(sample).compare(sample, answer, ()).score
        except JudgeError as error:  # the target itself, so every scorer would say the same
            yield f"{error.message} ({name_fields(error.hint)})"
            return
        if score != 1.0:
            yield f"the right answer {target!r} scores {score} with the scorer {scorer}, which reads {answer.text!r}"


def make_ideal_reply(sample: Sample) -> str:
    """The right answer as a model would give it."""
    return f"<think>I looked closely.</think><answer>{sample.target or ''}</answer>"


def _check_boxes(sample: Sample) -> Iterable[str]:
    reply = json.dumps([{"bbox_2d": list(box.xyxy), "label": box.label or "evidence"} for box in sample.gold_boxes])
    if not sample.gold_boxes:
        return
    corners = {box.xyxy for box in parse_boxes(reply)[0]}
    for box in sample.gold_boxes:
        if box.xyxy not in corners:
            yield f"the gold box {box.xyxy} does not come back from a reply"


def _check_image(image: ImageSource) -> Iterable[str]:
    try:
        width, height = image.load().size
    except P2RError as error:
        yield f"its image cannot be used: {error.message}"
        return
    if is_too_thin(width, height):
        yield f"its image is {width} x {height} pixels, too thin for the models' processors"
