"""Rows for PeBR-R1 on the nano model: Needles whose patterns a whole image shows, and replies that describe them.

    python -m recipes.pebr_r1.captions --out runs/pebr-rows

The questions are those of Needles. The objects are fewer and larger, so that one look at nano's 64 visual tokens can
tell a pattern; crops are not needed. Images are saved as nano is shown them.

| file | rows | for |
|---|---|---|
| `warm_up.jsonl` | conversations in ShareGPT's layout, each with a reply | supervised warm-up |
| `train.jsonl` | question, answer, and key words of the description | sampling, and both stages |
| `held_out.jsonl` | the same, of scenes that no phase sees | the table in README.md |

Of ten rows of the warm-up, eight have a reply in the sections of PeBR-R1. One has boxes and one an answer on boxes and
crops, as PRA-GRPO asks for them: without these, nano forgets how, and no other training could begin at the same start.

The key words of a row are what a description of its image should name: every object with its color and shape, and with
its pattern after them, as nano says it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from p2r.benchmarks.needles import TRAINING_SEEDS, draw_question, to_sample
from p2r.benchmarks.needles.knobs import FAMILIES, Family, Knobs
from p2r.benchmarks.needles.questions import Question
from p2r.benchmarks.needles.render import render
from p2r.benchmarks.needles.scene import Object, Scene
from p2r.cli.guard import run_script
from p2r.errors import ConfigError
from p2r.evidence import gather
from p2r.images.budget import FullImage, fit
from p2r.prompts import PromptSet, load_prompt_set
from recipes.nano.pool import BUDGET
from recipes.nano.rows import box_reply, reasoner_reply

PROMPTS = Path(__file__).parent / "prompts"
"""PeBR-R1's sections without the words that ask for them: nano spells those, and is taught the sections anyway."""
NUM_OBJECTS: Mapping[Family, tuple[int, int]] = {"attribute": (1, 2), "relation": (2, 2), "pair": (2, 3)}
SEEDS = {"warm_up": TRAINING_SEEDS + 31, "train": TRAINING_SEEDS + 32, "held_out": 31_000}
"""The seed of each file. No scene is in two of them."""
COUNTS = {"warm_up": 3200, "train": 192, "held_out": 200}
WITH_BOXES, ON_BOXES = 8, 9
"""The rows, of ten, whose reply is boxes, and an answer on boxes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the rows and their images")
    for name, count in COUNTS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=count, metavar="N", help=f"default {count}"
        )
    arguments = parser.parse_args()
    counts = {name: int(getattr(arguments, name)) for name in COUNTS}
    if min(counts.values()) < 1:
        raise ConfigError(f"there are no {min(counts.values())} rows", hint="at least 1 of each")
    with multiprocessing.Pool() as workers:
        for name, count in counts.items():
            lines = workers.imap(partial(write_row, arguments.out, name), range(count), chunksize=32)
            print(write_file(arguments.out, name, lines))


def write_file(folder: Path, name: str, lines: Iterable[str]) -> Path:
    """Write the lines of one file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_row(folder: Path, name: str, index: int) -> str:
    """Write the images of a row; returns its line."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    scene, question = draw_case(SEEDS[name], index)
    image = FullImage(fit(render(scene), BUDGET))
    shown, place = [image.image], index % 10
    if name != "warm_up":
        row = ask_row(scene, question)
    elif place == WITH_BOXES:
        row = show_boxes(scene, question)
    elif place == ON_BOXES:
        row = answer_on_boxes(scene, question)
        boxes = to_sample(scene, question, "").gold_boxes
        shown = gather(image, boxes).sized(BUDGET)
    else:
        row = describe(scene, question)
    paths = [f"images/{name}-{index:05d}{f'-{k}' if k else ''}.png" for k in range(len(shown))]
    for path, pixels in zip(paths, shown, strict=True):
        pixels.save(folder / path, compress_level=1)
    own: dict[str, object] = {"images": paths} if name == "warm_up" else {"id": f"{name}/{index}", "image": paths[0]}
    return json.dumps(own | row)


def draw_cases(seed: int, count: int) -> Iterator[tuple[Scene, Question]]:
    """Draw scenes with an open question each; the families take turns."""
    for index in range(count):
        yield draw_case(seed, index)


def draw_case(seed: int, index: int) -> tuple[Scene, Question]:
    """Draw the scene of a row and its question."""
    family = FAMILIES[index % len(FAMILIES)]
    knobs = Knobs(
        side_px=768,
        num_objects=NUM_OBJECTS[family],
        object_share=(0.29, 0.31),
        detail_share=0.13,
        period_share=0.0125,
        noise=0.0,
    )
    return draw_question(np.random.RandomState([seed, index]), knobs, family, choice=False)


def ask_row(scene: Scene, question: Question) -> dict[str, object]:
    """A question with its answer and the key words of its image."""
    return {
        "question": question.text,
        "target": question.answer,
        "answer_form": "free_form",
        "category": question.family,
        "key_word": list_key_words(scene),
    }


def list_key_words(scene: Scene) -> list[str]:
    """What a description should name, from left to right: each object, and each with its pattern."""
    objects = _from_left(scene.objects)
    return list(dict.fromkeys([item.name for item in objects] + [_describe(item) for item in objects]))


def describe(scene: Scene, question: Question) -> dict[str, object]:
    """A row that is answered in sections."""
    prompts = load_prompt_set(PROMPTS)
    asked = prompts.reasoner_without_evidence(to_sample(scene, question, ""))
    return _converse(prompts, asked, 1, write_reply(scene, question))


def show_boxes(scene: Scene, question: Question) -> dict[str, object]:
    """A row that is answered with boxes."""
    prompts, sample = load_prompt_set("release"), to_sample(scene, question, "")
    return _converse(prompts, prompts.perceiver(sample), 1, box_reply(sample.gold_boxes))


def answer_on_boxes(scene: Scene, question: Question) -> dict[str, object]:
    """A row that is answered from boxes and crops."""
    prompts, sample = load_prompt_set("release"), to_sample(scene, question, "")
    num_images = 1 + len(sample.gold_boxes)
    return _converse(prompts, prompts.reasoner(sample), num_images, reasoner_reply(scene, question, sample))


def _converse(prompts: PromptSet, asked: str, num_images: int, reply: str) -> dict[str, object]:
    return {
        "messages": [
            {"role": "system", "content": prompts.system},
            {"role": "user", "content": "<image>" * num_images + asked},
            {"role": "assistant", "content": reply},
        ]
    }


def write_reply(scene: Scene, question: Question) -> str:
    """A right reply: what is there from left to right, which of it matters, a step for each object, the answer.

    nano spells what it has no token for, so the words are few, and facts stand as it was taught them.
    """
    named = [scene.objects[index] for index in question.mentions]
    steps = [_describe(item) for item in named]
    if question.family == "relation":
        left, right = _from_left(named)
        steps = [f"left: {left.pattern}, right: {right.pattern}", f"{named[0].pattern}: {question.answer}"]
    sections = [
        ("Image Description:", ", ".join(map(_describe, _from_left(scene.objects)))),
        ("Rationales:", " and ".join(dict.fromkeys(item.name for item in named))),
        ("Let's think step by step.", ""),
        *((f"Step {number}:", step) for number, step in enumerate(steps, start=1)),
        ("The final answer is:", question.answer),
    ]
    return "\n".join(line for heading, text in sections for line in (f"### {heading}", text) if line)


def _from_left(objects: Iterable[Object]) -> list[Object]:
    return sorted(objects, key=lambda item: item.x)


def _describe(item: Object) -> str:
    return f"{item.name}: {item.pattern}"


if __name__ == "__main__":
    run_script(main)
