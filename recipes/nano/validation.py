"""What the language model can do on held-out scenes while it learns."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from p2r.answers import extract_answer
from p2r.benchmarks.needles import to_sample
from p2r.benchmarks.needles.questions import ask
from p2r.boxes import localize, parse_boxes
from p2r.dialogue import Decoding
from p2r.types import Sample
from recipes.nano.misses import RIGHT_LABELS, WRONG, count_misses, list_figures
from recipes.nano.pool import Entry, draw_family
from recipes.nano.replies import Replier
from recipes.nano.wording import RELEASE

BOXES, ANSWER = Decoding(max_new_tokens=60), Decoding(max_new_tokens=40)
NUM_GROUPS, GROUP_SIZE = 40, 8


def validate(replier: Replier, held_out: Sequence[Entry]) -> dict[str, float]:
    """Greedy boxes and greedy answers on jittered gold evidence, in the release's words.

    hit, wrong_axes, fewer_digits, more_digits: how boxes miss (misses.py); the last three are shares of all axes.
    right_labels: of the boxes on an object that was asked for, those that have its name.
    right_free_form, right_choice: answers.
    dead: the share of groups of `GROUP_SIZE` answers, sampled at temperature 1, that are all right or all wrong, from
    which reinforcement learning learns nothing.
    """
    began = time.perf_counter()
    scores = _look(replier, held_out) | _reason(replier, held_out)
    return scores | {"validation_seconds": time.perf_counter() - began}


def _look(replier: Replier, held_out: Sequence[Entry]) -> dict[str, float]:
    rng, samples = np.random.RandomState(5), list[Sample]()
    for entry in held_out:
        question = ask(rng, entry.scene, draw_family(rng, entry.scene), choice=bool(rng.rand() < 0.5))
        samples.append(to_sample(entry.scene, question, ""))
    items = [(RELEASE.perceiver(s), [entry.full]) for s, entry in zip(samples, held_out, strict=True)]
    replies = replier.reply(RELEASE.system, items, BOXES)
    gold = [sample.gold_boxes for sample in samples]
    hits = [localize(parse_boxes(t)[0], boxes).hit_share_of_gold for t, boxes in zip(replies, gold, strict=True)]
    figures = list_figures(count_misses(replies, gold))
    wrong, axes = figures[WRONG]
    shares = {f"{kind}_digits": figures[f"axis: {kind} digits"][0] / max(axes, 1) for kind in ("fewer", "more")}
    labeled, boxes = figures[RIGHT_LABELS]
    labels = {"right_labels": labeled / max(boxes, 1)}
    return {"hit": float(np.mean(hits)), "wrong_axes": wrong / max(axes, 1), **shares, **labels}


def _reason(replier: Replier, held_out: Sequence[Entry]) -> dict[str, float]:
    cases = [(entry.scene, entry.case) for entry in held_out if entry.case]
    samples = [to_sample(scene, case.questions[k % 2], "") for k, (scene, case) in enumerate(cases)]
    items = [
        (RELEASE.reasoner(sample), [case.annotated, *case.crops])
        for sample, (_, case) in zip(samples, cases, strict=True)
    ]
    replies = replier.reply(RELEASE.system, items, ANSWER)
    right = [_is_right(sample, reply) for sample, reply in zip(samples, replies, strict=True)]
    scores = {
        f"right_{form}": float(np.mean([r for r, s in zip(right, samples, strict=True) if s.answer_form == form]))
        for form in ("free_form", "choice")
    }
    sampled = [
        replier.reply(RELEASE.system, items[:NUM_GROUPS], ANSWER.model_copy(update={"temperature": 1.0, "seed": k}))
        for k in range(GROUP_SIZE)
    ]
    groups = np.array([[_is_right(*pair) for pair in zip(samples, replies, strict=False)] for replies in sampled])
    dead = groups.all(0) | ~groups.any(0)
    return scores | {"dead": float(np.mean(dead)), "sampled_right": float(groups.mean())}


def _is_right(sample: Sample, reply: str) -> bool:
    answer = extract_answer(reply, sample.answer_form, sample.options)
    return (answer.letter if sample.answer_form == "choice" else answer.text) == sample.target
