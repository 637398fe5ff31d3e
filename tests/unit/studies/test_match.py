"""What an earlier call has left is taken only for what the study asks for now, wherever the study lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.benchmarks.base import Origin
from p2r.config import Recipe
from p2r.runs.evaluation import RunSettings, make_run
from p2r.studies.joblist import list_askings, list_trainings
from p2r.studies.jobs import AskJob
from p2r.studies.match import explain_other_answers, list_other_settings
from p2r.studies.study import QuestionSet
from tests.fakes.studies import make_study

LATER = """
[arms.later]
recipe = "nano"
start = "both"
set = ["data.source={files.rows}/train.jsonl"]

[files.rows]
module = "x"
last = "train.jsonl"

[[tables]]
title = "x"
evaluation = "fresh"
rows = [{ name = "later", arm = "later" }, { name = "pair", arm = "start", perceiver = "later" }]
columns = [{ name = "accuracy" }]
"""


def compare(asked: QuestionSet, origin: Origin | None, **settings: str) -> str:
    run = make_run([], [], RunSettings.model_validate(settings), origin=origin)
    return explain_other_answers(run, {"prompts": asked.prompts}, {}, asked)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("needles", "needles", ""),
        ("needles", "needles:natural", "benchmark was needles, now needles:natural"),
        ("needles", "vstar", "benchmark was needles, now vstar"),
        ("vstar:/mnt/a/vstar_bench", "vstar:/home/vstar_bench", ""),
        ("vstar:/mnt/vstar_bench", "vstar", ""),
        ("vstar", "vstar:/home/vstar_bench", ""),
        ("vstar:/mnt/a", "vstar:/mnt/b", "benchmark was vstar:/mnt/a, now vstar:/mnt/b"),
        ("/mnt/a.jsonl", "rows/a.jsonl", ""),
        ("/mnt/a.jsonl", "/mnt/b.jsonl", "benchmark was /mnt/a.jsonl, now /mnt/b.jsonl"),
        ("hrbench_4k:/mnt/x", "hrbench_8k:/mnt/x", "benchmark was hrbench_4k:/mnt/x, now hrbench_8k:/mnt/x"),
    ],
)
def test_answers_to_another_benchmark_are_told_from_those_of_data_that_were_moved(
    was: str, now: str, said: str
) -> None:
    found = compare(QuestionSet(benchmark=now), Origin(spec=was))
    assert found == (f"another run: {said}" if said else "")


def test_answers_to_another_split_or_to_other_boxes_are_told() -> None:
    asked = QuestionSet(benchmark="vstar", split="test", boxes="/mnt/boxes", images="/mnt/images")
    same = Origin(spec="vstar", split="test", boxes="/home/boxes", images="/home/images")
    assert compare(asked, same) == ""
    assert compare(asked, None) == ""
    for name in ("split", "boxes", "images"):
        other = same.model_copy(update={name: "/mnt/other"})
        assert f"{name} was /mnt/other, now" in compare(asked, other)
        assert f"{name} was not set, now" in compare(asked, same.model_copy(update={name: None}))


def test_answers_in_other_words_are_told_where_the_words_were_recorded() -> None:
    asked = QuestionSet(benchmark="needles", prompts="paper")
    assert compare(asked, None, prompts="release") == "another run: prompts was release, now paper"
    assert compare(asked, None) == ""


def test_answers_to_all_questions_are_not_taken_for_those_to_a_few() -> None:
    run = make_run([], [], RunSettings(limit=None))
    asked = QuestionSet(benchmark="needles", num=40)
    assert explain_other_answers(run, {"limit": 40}, {}, asked) == "another run: limit was not set, now 40"
    assert explain_other_answers(run, {"limit": None}, {}, asked) == ""


def find_asking(tmp_path: Path, name: str, *changes: str) -> AskJob:
    return next(job for job in list_askings(make_study(tmp_path, LATER, changes=changes)) if job.name == name)


def test_a_job_asks_in_the_words_of_its_evaluation(tmp_path: Path) -> None:
    job = find_asking(tmp_path, "fresh/start", "evaluations.fresh.prompts=paper")
    run = make_run([], [], RunSettings(model="nano-base", prompts="release", limit=40, seed=9000))
    said = explain_other_answers(run, job.settings, job.trained, job.questions)
    assert said == "another run: prompts was release, now paper"


def test_answers_of_another_checkpoint_of_the_study_are_told(tmp_path: Path) -> None:
    job = find_asking(tmp_path, "fresh/later/seed-0")
    assert job.trained == {"model": "arms/later/seed-0/1-reasoner"}
    pair = find_asking(tmp_path, "fresh/later+start/seed-1")
    assert pair.trained == {"perceiver_model": "arms/later/seed-1/1-reasoner"}
    assert pair.settings["model"] == "nano-base"

    def explain(**settings: str) -> str:
        run = make_run([], [], RunSettings.model_validate(settings))
        return explain_other_answers(run, {}, {"model": "arms/a/seed-0/0-x"}, QuestionSet(benchmark="needles"))

    assert explain(model="/old/place/arms/a/seed-0/0-x") == ""
    assert explain(model="arms/a/seed-0/0-x") == ""
    assert explain_other_answers(make_run([], [], RunSettings()), {}, pair.trained, pair.questions) == ""
    for other in ("/old/arms/a/seed-0/1-y", "/old/arms/b/seed-0/0-x", "/old/more-arms/a/seed-0/0-x", "nano"):
        assert "model was" in explain(model=other)


def test_a_perceiver_that_is_another_checkpoint_is_told(tmp_path: Path) -> None:
    more = LATER.replace('perceiver = "later"', 'perceiver = "other"').replace(
        'arm = "start", perceiver', 'arm = "both", perceiver'
    )
    study = make_study(tmp_path, more + '\n[arms.other]\ncheckpoint = "nano"\n')
    job = next(job for job in list_askings(study) if job.name == "fresh/other+both/seed-0")
    assert job.settings["perceiver_model"] == "nano"
    run = make_run([], [], RunSettings(perceiver_model="nano-base", limit=40, seed=9000))
    assert "perceiver_model was nano-base, now nano" in explain_other_answers(run, job.settings, {}, job.questions)
    unused = make_run([], [], RunSettings(perceiver_model=None, limit=40, seed=9000))
    assert explain_other_answers(unused, job.settings, {}, job.questions) == ""


def recipe_of(tmp_path: Path, out: str, *changes: str) -> tuple[Recipe, Path]:
    study = make_study(tmp_path, LATER, changes=[f"out={out}", *changes])
    job = next(job for job in list_trainings(study) if job.name == "later/seed-1")
    return job.recipe, job.folder


def test_an_arm_is_the_same_where_its_study_was_moved_with_all_that_it_starts_from(tmp_path: Path) -> None:
    was, _ = recipe_of(tmp_path, "runs/before")
    assert was.model.source == "runs/before/arms/both/seed-1/1-reasoner"
    now, folder = recipe_of(tmp_path, str(tmp_path / "after"))
    assert list_other_settings(now, was, folder) == []
    other, folder = recipe_of(tmp_path, str(tmp_path / "after"), "arms.later.start=start")
    assert list_other_settings(other, was, folder) == ["model"]
    other, folder = recipe_of(tmp_path, "after", 'arms.later.set=["data.source={files.rows}/others.jsonl"]')
    assert list_other_settings(other, was, folder) == ["data"]
