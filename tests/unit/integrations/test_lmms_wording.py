"""A row is asked in the same words by `p2r eval` and inside lmms-eval, to the character of every prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.options import join_question
from p2r.integrations.lmms_wording import KNOWN, Worded, word_question
from p2r.prompts import load_prompt_set
from p2r.types import LETTERS, Sample
from tests.fakes.benchmark_files import CLOSING, make_base64, make_bytes, write_parquet, write_tsv
from tests.fakes.lmms_tasks import WRITERS, write_mme, write_vstar

Row = dict[str, object]
Question = tuple[str, tuple[str, ...]]

PLAIN: list[Question] = [
    ("What is the color of the kite?", ("red", "green", "blue", "white")),
    ("Is the dog left of the cat?", ("The dog is on the left side.", "The dog is on the right side.")),
    ("Is the (small) dog left of the cat (or right)?", ("left", "right")),
    ("How much is written on the sign?", ("1,000", "$5", "5 m", "50%")),
    ("What do the two signs say?\nAnswer for both.", ("stop, go", "it's", 'a "b"', "N/A")),
    ("牌子上写着什么？", ("红色", "绿色", "café", "E")),
    ("Which letter is it?", ("B", "A", "D", "C")),
    ("What holds?", ("none of the above", "A and B", "x. y", "3 : 4")),
]
CUT: list[Question] = [  # brackets in an option, by which lmms-eval's V* task cuts the list
    ("What is it?", ("a (small) cat", "a dog", "a cow", "a hen")),
    ("What is it?", ("a cat", "a dog", "a cow", "a hen (white)")),
    ("Which is it?", ("a cat", "both (A) and a dog")),
]


def make_vstar(number: int, question: Question) -> Row:
    text = "\n".join((join_question(*question), CLOSING))
    image = {"bytes": make_bytes(number), "path": None}
    name = {"category": "direct_attributes", "label": "A", "question_id": str(number)}
    return {"image": image, "text": text, **name}


def make_hrbench(number: int, question: Question) -> Row:
    stem, options = question
    row: Row = {"index": number, "question": stem, "answer": "A", "category": "single", "cycle_category": number % 4}
    return {**row, **dict(zip(LETTERS, options, strict=False)), "image": make_base64(number)}


def make_mme(number: int, question: Question) -> Row:
    stem, options = question
    listed = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    row: Row = {"index": f"m{number}", "bytes": make_base64(number), "question": stem, "multi-choice options": listed}
    return {**row, "answer": "A", "category": "Reasoning/Monitoring"}


TASKS: dict[str, tuple[str, Callable[[int, Question], Row]]] = {
    "vstar_bench": ("vstar:rows.parquet", make_vstar),
    "hrbench4k": ("hrbench_4k:4k.tsv", make_hrbench),
    "mmerealworld_lite": ("mme_realworld_lite:rows.parquet", make_mme),
}


def ask_both_ways(folder: Path, task: str, questions: Sequence[Question]) -> list[tuple[Sample, Sample]]:
    """Return each row as `p2r eval` loads it, and as it is asked inside lmms-eval."""
    spec, make = TASKS[task]
    name, _, file = spec.partition(":")
    rows = [make(number, question) for number, question in enumerate(questions)]
    pairs: list[tuple[Sample, Sample]] = []
    for number, row in enumerate(rows):  # each in a file of its own, because they have different columns
        place = folder / f"{number}-{file}"
        (write_tsv if file.endswith(".tsv") else write_parquet)(place, [row])
        (loaded,) = load_benchmark(f"{name}:{place}")
        worded = word_question(task, WRITERS[task](row))
        pairs.append((loaded, Sample(id="q", image=loaded.image, answer_form="choice", **worded._asdict())))
    return pairs


def read_prompts(sample: Sample) -> list[str]:
    wording = load_prompt_set("release")
    return [wording.perceiver(sample), wording.reasoner(sample), wording.direct(sample), wording.thinking(sample)]


@pytest.mark.parametrize("task", TASKS)
def test_both_ways_send_identical_prompts(task: str, tmp_path: Path) -> None:
    questions = PLAIN if task == "vstar_bench" else [*PLAIN, *CUT]
    for loaded, asked in ask_both_ways(tmp_path, task, questions):
        assert read_prompts(asked) == read_prompts(loaded)
        assert asked.options == loaded.options


def test_only_rows_that_the_task_cuts_are_asked_in_other_words(tmp_path: Path) -> None:
    """The number that docs/deviations.md states: none but options with brackets, which lmms-eval leaves out or cuts."""
    pairs = ask_both_ways(tmp_path, "vstar_bench", [*PLAIN, *CUT])
    others = [place for place, (loaded, asked) in enumerate(pairs) if read_prompts(loaded) != read_prompts(asked)]
    assert others == [
        place for place, (loaded, _) in enumerate(pairs) if any("(" in option for option in loaded.options)
    ]
    assert (len(pairs) - len(others), len(others)) == (8, 3)


def test_in_the_words_of_the_task_every_row_is_another_question(tmp_path: Path) -> None:
    """What `closing=keep` asks, and what was asked before: why a run of one tool was none of the other."""
    for number, question in enumerate(PLAIN):
        row = make_vstar(number, question)
        kept = word_question("vstar_bench", write_vstar(row), keeps_all=True)
        assert kept.question == write_vstar(row) and kept.options_in_question
        assert kept.question.partition("\nAnswer with")[0] != join_question(*question)


def test_the_variants_of_a_task_are_asked_alike_and_others_in_their_own_words() -> None:
    question = PLAIN[0]
    texts = {"vstar": write_vstar(make_vstar(0, question)), "mme": write_mme(make_mme(0, question))}
    for task in KNOWN:
        text = texts[task[:5] if task.startswith("vstar") else "mme"]
        assert word_question(task, text).question.startswith("What is the color of the kite?")
    lettered = join_question(*question).replace("(", "").replace(")", ".")
    for task in ("vstar_bench_reasoning", "mmerealworld_cn", "my_task"):
        assert word_question(task, texts["vstar"]) == Worded(lettered, question[1], options_in_question=True)


def test_a_question_without_options_is_kept_whole() -> None:
    text = "What does the sign say?\nAnswer with one word."
    assert word_question("vstar_bench", text) == word_question("my_task", text) == Worded(text, (), False)
