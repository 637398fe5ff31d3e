"""How right a nano checkpoint is in each wording: prompt sets, option layouts, closings, answer forms, paraphrases.

    python -m recipes.nano.measure_wordings --model runs/nano/checkpoint --num-samples 300
    python -m recipes.nano.measure_wordings --model nano-base --only unseen --num-samples 60

The same questions (of one seed, as choices where the wording has options) are asked in every wording. Each row is
compared with the first, needles as `p2r eval` asks them: a change in points with its 95% interval, paired. Wordings
called "unseen" are never seen in the cold start.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import track
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from p2r.answers import extract_answer
from p2r.benchmarks.needles import draw_question
from p2r.benchmarks.needles.knobs import FAMILIES, Knobs, parse_knobs
from p2r.benchmarks.needles.questions import Question
from p2r.benchmarks.needles.render import render
from p2r.benchmarks.needles.scene import Scene
from p2r.boxes import parse_boxes
from p2r.cli.guard import run_script
from p2r.cli.screen import print_tables
from p2r.dialogue import Decoding
from p2r.evaluation.tables import MISSING, Table
from p2r.evidence import Evidence, gather
from p2r.images.budget import FullImage
from p2r.judges import judge_for
from p2r.models.load import find_checkpoint
from p2r.prompts import PromptSet
from p2r.statistics import compare_pairs
from p2r.types import Box, Sample
from recipes.nano.encode import install_fast_vision
from recipes.nano.pool import BUDGET, View, make_view
from recipes.nano.replies import Replier
from recipes.nano.wording import (
    CLOSINGS,
    LAYOUTS,
    PAPER,
    PEBR_R1,
    RELEASE,
    TRAINED,
    UNTRAINED,
    UNTRAINED_LAYOUTS,
    Style,
    Wordings,
    ask_for_count,
    word_sample,
)

MODES = ("oracle", "own", "direct")
BOXES, REPLY = Decoding(max_new_tokens=64), Decoding(max_new_tokens=96)
NUM_PARAPHRASES = 30


class Wording(NamedTuple):
    """A row of the table. form: how the question is asked; "count" asks how many of a pair have a pattern."""

    name: str
    style: Style
    form: str = "choice"


def list_wordings() -> list[Wording]:
    """All that the cold start trains on, then what it does not."""
    no_system = replace(RELEASE, texts={**RELEASE.texts, "system": ""})
    vstar, vlmeval, _, mme = CLOSINGS[:4]
    rows = [Wording(f"release, {name}", Style(RELEASE, layout)) for name, layout in LAYOUTS.items()]
    rows += [Wording(f"paper, {name}", Style(PAPER, LAYOUTS[name])) for name in ("headed", "vstar", "mme")]
    rows += [
        Wording("pebr_r1, headed", Style(PEBR_R1)),
        Wording("no system turn, vstar", Style(no_system, LAYOUTS["vstar"])),
        Wording("V*'s closing sentence", Style(RELEASE, LAYOUTS["vstar"], vstar)),
        Wording("lmms-eval's V*", Style(RELEASE, LAYOUTS["lmms"], vstar)),
        Wording("lmms-eval's MME-RealWorld", Style(RELEASE, LAYOUTS["lmms_mme"], mme)),
        Wording("VLMEvalKit's V*", Style(RELEASE, LAYOUTS["headed"], vlmeval)),
        Wording("release, free form", Style(RELEASE), "free_form"),
        Wording("paper, free form", Style(PAPER), "free_form"),
        Wording("release, number", Style(RELEASE), "count"),
    ]
    rows += _paraphrases("trained", TRAINED)
    rows += [Wording(f"unseen layout, {name}", Style(RELEASE, it)) for name, it in UNTRAINED_LAYOUTS.items()]
    rows.append(Wording("unseen closing", Style(RELEASE, LAYOUTS["vstar"], UNTRAINED.texts["closings"][0])))
    return rows + _paraphrases("unseen", UNTRAINED)


def _paraphrases(name: str, wordings: Wordings) -> list[Wording]:
    layouts = list(LAYOUTS.values())
    return [
        Wording(f"{name} paraphrase {k + 1}", Style(wordings.pick(k), layouts[k % len(layouts)]))
        for k in range(NUM_PARAPHRASES)
    ]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what there is to see: the image as the model sees it, and the evidence of gold boxes."""

    scene: Scene
    question: Question
    full_image: FullImage
    whole: View
    oracle: tuple[View, ...]


class Measurer:
    """Asks one model the same questions in any wording."""

    def __init__(self, source: str, seed: int, num_samples: int, knobs: Knobs) -> None:
        folder = find_checkpoint(source).folder
        model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        model.eval().requires_grad_(False)
        self._replier = Replier(model, AutoTokenizer.from_pretrained(folder))
        self._seed = seed
        self._asked = [self._draw(k, knobs) for k in track(range(num_samples), "questions")]

    def _draw(self, k: int, knobs: Knobs) -> Asked:
        family = FAMILIES[k % len(FAMILIES)]
        scene, question = draw_question(np.random.RandomState([self._seed, k]), knobs, family, choice=True)
        full_image = FullImage(render(scene))
        gold = [scene.objects[subject].box(scene.knobs.side_px) for subject in question.subjects]
        whole = make_view(full_image.fitted(BUDGET))
        return Asked(scene, question, full_image, whole, _show(gather(full_image, gold)))

    def measure(self, wording: Wording) -> dict[str, list[bool]]:
        """Right or wrong, question by question, in every mode."""
        prompts, items = wording.style.prompts, list[tuple[Asked, Sample]]()
        for k, asked in enumerate(self._asked):
            question = asked.question
            if wording.form == "count":
                if question.family != "pair":
                    continue
                question = ask_for_count(np.random.RandomState([self._seed, k, 1]), asked.scene, question)
            elif wording.form == "free_form":
                question = replace(question, options=())
            items.append((asked, word_sample(asked.scene, question, wording.style)[0]))
        samples = [sample for _, sample in items]
        looked = [(prompts.perceiver(sample), [asked.whole]) for asked, sample in items]
        boxes = [parse_boxes(reply)[0] for reply in self._replier.reply(prompts.system, looked, BOXES)]
        texts = {
            "oracle": [(prompts.reasoner(sample), asked.oracle) for asked, sample in items],
            "own": [self._present(prompts, *item, each) for item, each in zip(items, boxes, strict=True)],
            "direct": [(prompts.direct(sample), [asked.whole]) for asked, sample in items],
        }
        replies = {mode: self._replier.reply(prompts.system, texts[mode], REPLY) for mode in MODES}
        return {mode: [judge(*pair) for pair in zip(samples, replies[mode], strict=True)] for mode in MODES}

    @staticmethod
    def _present(
        prompts: PromptSet, asked: Asked, sample: Sample, boxes: Sequence[Box]
    ) -> tuple[str, tuple[View, ...]]:
        evidence = gather(asked.full_image, boxes)
        text = prompts.reasoner if evidence.record.annotated else prompts.reasoner_without_evidence
        return text(sample), _show(evidence)


def _show(evidence: Evidence) -> tuple[View, ...]:
    return tuple(make_view(image) for image in evidence.sized(BUDGET))


def judge(sample: Sample, reply: str) -> bool:
    answer = extract_answer(reply, sample.answer_form, sample.options)
    return asyncio.run(judge_for(sample)(sample, answer, ())).correct


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="nano-base", help="nano, nano-base, or a checkpoint folder")
    parser.add_argument("--num-samples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=15000)
    parser.add_argument("--needles", default="", metavar="SETTING=VALUE,...", help="settings of needles")
    parser.add_argument("--only", default="", help="measure the wordings whose names contain this, and the first")
    arguments = parser.parse_args()
    install_fast_vision()
    torch.set_num_threads(1)
    measurer = Measurer(arguments.model, arguments.seed, arguments.num_samples, parse_knobs(arguments.needles))
    first, *others = list_wordings()
    chosen = [first, *(wording for wording in others if arguments.only in wording.name)]
    results = {wording.name: measurer.measure(wording) for wording in track(chosen, "wordings")}
    print_tables([tabulate(arguments.model, results)])


def tabulate(model: str, results: dict[str, dict[str, list[bool]]]) -> Table:
    """A row per wording: accuracy in each mode, and the change from the first row, question by question."""
    base = next(iter(results.values()))
    rows = []
    for name, right in results.items():
        cells = [f"{np.mean(right[mode]):.3f}" for mode in MODES]
        for mode in MODES[:2]:
            same = len(right[mode]) == len(base[mode]) and right is not base
            cells.append(_show_change(base[mode], right[mode]) if same else MISSING)
        rows.append((name, str(len(right["own"])), *cells))
    columns = ("wording", "n", *MODES, "change, oracle", "change, own")
    return Table(title=f"Needles in other words: {model}", columns=columns, rows=tuple(rows))


def _show_change(base: Sequence[bool], other: Sequence[bool]) -> str:
    difference = compare_pairs([float(x) for x in base], [float(x) for x in other])
    return f"{100 * difference.mean:+.1f} [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"


if __name__ == "__main__":
    run_script(main)
