"""Which jobs a study has, what they wait for, which commands they are, and when they are finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.errors import StorageError
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import METRICS_FILE
from p2r.studies.joblist import find_root, list_askings, list_jobs, list_trainings
from p2r.studies.jobs import AskJob, FilesJob, TrainJob, show_command
from tests.fakes.studies import make_study, write_answers

PAIRS = """
[arms.later]
recipe = "nano"
set = ["data.num_rows=64"]
start = "both"
seeds = [1, 2]

[[tables]]
title = "Table 3"
evaluation = "fresh"
rows = [
    { name = "pair", perceiver = "first", arm = "start" },
    { name = "itself", perceiver = "both", arm = "both", mode = "oracle" },
    { name = "later", arm = "later", mode = "direct" },
    { name = "two", perceiver = "both", arm = "later" },
]
columns = [{ name = "accuracy" }]
"""


def test_jobs_come_after_those_that_they_need(tmp_path: Path) -> None:
    jobs = list_jobs(make_study(tmp_path, PAIRS))
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for place, job in enumerate(jobs):
        assert set(job.needs) <= set(names[:place]), job.name
    needs = {job.name: job.needs for job in jobs}
    assert needs["later/seed-1"] == ("both/seed-1",)
    assert needs["fresh/start"] == ()
    assert needs["fresh/first+start/seed-2"] == ("both/seed-2",)
    assert needs["fresh/both+later/seed-2"] == ("later/seed-2", "both/seed-2")


def test_one_seed_is_trained_and_asked_before_the_next(tmp_path: Path) -> None:
    names = [job.name for job in list_jobs(make_study(tmp_path, PAIRS))]
    assert names == [
        "fresh/start",
        "both/seed-0",
        "fresh/both/seed-0",
        "fresh/first+start/seed-0",
        "both/seed-1",
        "fresh/both/seed-1",
        "fresh/first+start/seed-1",
        "later/seed-1",
        "fresh/later/seed-1",
        "fresh/both+later/seed-1",
        "both/seed-2",
        "fresh/both/seed-2",
        "fresh/first+start/seed-2",
        "later/seed-2",
        "fresh/later/seed-2",
        "fresh/both+later/seed-2",
    ]


def test_seeds_come_in_the_order_of_the_study_and_those_of_an_arm_alone_last(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["seeds=[2, 0]", "arms.both.seeds=[7, 0, 2]"])
    names = [job.name for job in list_jobs(study) if isinstance(job, TrainJob)]
    assert names == ["both/seed-2", "both/seed-0", "both/seed-7"]


def test_only_what_something_needs_is_trained_and_asked(tmp_path: Path) -> None:
    study = make_study(tmp_path, '\n[arms.idle]\nrecipe = "nano"\n')
    assert {job.arm for job in list_trainings(study)} == {"both"}
    assert [job.name for job in list_askings(study)] == [
        "fresh/both/seed-0", "fresh/both/seed-1", "fresh/both/seed-2", "fresh/start",
    ]  # fmt: skip


def test_an_arm_is_asked_in_all_modes_by_one_job(tmp_path: Path) -> None:
    jobs = {job.name: job for job in list_askings(make_study(tmp_path, PAIRS))}
    assert jobs["fresh/both/seed-0"].modes == ("p2r", "oracle")
    assert "fresh/both+both/seed-0" not in jobs
    assert [name for name in jobs if name.startswith("fresh/both+later")] == [
        "fresh/both+later/seed-1", "fresh/both+later/seed-2",
    ]  # fmt: skip


def test_a_command_says_all_that_a_job_is(tmp_path: Path) -> None:
    study = make_study(tmp_path, PAIRS, changes=["evaluations.fresh.prompts=paper", "arms.both.num_processes=2"])
    jobs = {job.name: job for job in list_jobs(study)}
    out = tmp_path / "out"
    assert jobs["both/seed-1"].command == [
        "train", "nano", "--set", "data.num_rows=64", "--set", "seed=1", "--set", f"out={out}/arms/both/seed-1",
        "--processes", "2",
    ]  # fmt: skip
    later = jobs["later/seed-1"].command
    assert f"model.source={out}/arms/both/seed-1/1-reasoner" in later
    assert jobs["fresh/first+start/seed-0"].command == [
        "eval", "needles", "--model", "nano-base", "--perceiver-model", f"{out}/arms/both/seed-0/0-perceiver",
        "--mode", "p2r", "--limit", "40", "--seed", "9000", "--prompts", "paper", "--num-at-once", "16",
        "--out", f"{out}/answers/fresh/first+start/seed-0",
    ]  # fmt: skip


def test_a_training_that_has_begun_is_resumed_and_one_that_has_finished_is_seen(tmp_path: Path) -> None:
    [job] = [job for job in list_trainings(make_study(tmp_path)) if job.seed == 0]
    total = sum(phase.steps or 0 for phase in job.recipe.phases())
    assert (job.look().done, job.look().total, job.look().is_finished) == (0, total, False)
    begin(job)
    assert job.command[-1] == "--resume"
    assert not job.look().is_finished
    (job.folder / METRICS_FILE).write_text('{"phase": "0-perceiver", "step": 1}\n', encoding="utf-8")
    assert job.look().done == 1
    for phase in job.recipe.phases():
        (job.folder / phase.name).mkdir()
    assert job.look().is_finished


def test_a_run_of_another_recipe_is_not_taken_for_this_one(tmp_path: Path) -> None:
    [job] = [job for job in list_trainings(make_study(tmp_path)) if job.seed == 0]
    begin(job)
    for phase in job.recipe.phases():
        (job.folder / phase.name).mkdir()
    changed = make_study(tmp_path, changes=["arms.both.set=['data.num_rows=65']"])
    with pytest.raises(StorageError, match=r"trained with other settings of data than arm both has now"):
        list_trainings(changed)[0].look()


def test_questions_that_failed_are_not_finished(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    jobs = {job.name: job for job in list_askings(study)}
    job = jobs["fresh/start"]
    assert (job.look().done, job.look().total) == (0, 40)
    write_answers(study, "start", None, [True, None, False])
    assert (job.look().done, job.look().num_failed, job.look().is_finished) == (3, 1, False)
    write_answers(study, "both", 0, [True, False])
    assert jobs["fresh/both/seed-0"].look().is_finished


FILES = """
[files.rows]
module = "recipes.pebr_r1.captions"
last = "held_out.jsonl"
args = ["--train", "9"]

[files.unused]
module = "recipes.pebr_r1.captions"
last = "held_out.jsonl"

[arms.later]
recipe = "nano"
set = ["data.source={files.rows}/train.jsonl", "probe.source={files.rows}/held_out.jsonl"]
start = "both"

[[tables]]
title = "x"
evaluation = "fresh"
rows = [{ name = "later", arm = "later" }]
columns = [{ name = "accuracy" }]
"""


def test_files_that_an_arm_is_trained_on_are_made_first(tmp_path: Path) -> None:
    study = make_study(tmp_path, FILES)
    made, *others = list_jobs(study)
    folder = tmp_path / "out/files/rows"
    assert isinstance(made, FilesJob)
    assert not any(isinstance(job, FilesJob) for job in others), "what no arm is trained on is not made"
    assert (made.name, made.module, made.command) == (
        "files/rows", "recipes.pebr_r1.captions", ["--train", "9", "--out", str(folder)],
    )  # fmt: skip
    assert show_command(made) == f"python -m recipes.pebr_r1.captions --train 9 --out {folder}"
    needs = {job.name: job.needs for job in others}
    assert needs["later/seed-1"] == ("both/seed-1", "files/rows")
    assert needs["both/seed-1"] == ()
    assert not made.look().is_finished
    folder.mkdir(parents=True)
    (folder / "train.jsonl").touch()
    assert not made.look().is_finished
    (folder / "held_out.jsonl").touch()
    assert made.look().is_finished
    assert show_command(next(job for job in others if job.name == "both/seed-0")).startswith(
        "p2r train nano --set data.num_rows=64 --set seed=0 "
    )


def begin(job: TrainJob) -> None:
    """Leave a folder as a run that has just begun does."""
    job.folder.mkdir(parents=True)
    (job.folder / RECIPE_FILE).write_text(job.recipe.model_dump_json(), encoding="utf-8")


def test_the_modes_of_a_job_are_those_that_it_reads(tmp_path: Path) -> None:
    study = make_study(tmp_path, PAIRS)
    write_answers(study, "both", 0, [True], mode="p2r")
    job = next(job for job in list_askings(study) if job.name == "fresh/both/seed-0")
    assert isinstance(job, AskJob)
    assert job.read("oracle") is None
    assert not job.look().is_finished
    write_answers(study, "both", 0, [True], mode="oracle")
    assert job.look().is_finished


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("evaluations.fresh.num=60", "limit was 40, now 60"),
        ("evaluations.fresh.seed=1", "seed was 9000, now 1"),
        ("evaluations.fresh.max_pixels=5000", "max_pixels was not set, now 5000"),
        ("arms.start.checkpoint=nano", "model was nano-base, now nano"),
    ],
)
def test_answers_to_other_questions_are_not_taken_for_these(tmp_path: Path, change: str, said: str) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True])
    write_answers(study, "both", 1, [True])
    changed = {job.name: job for job in list_askings(make_study(tmp_path, changes=[change]))}
    with pytest.raises(StorageError, match=said) as caught:
        changed["fresh/start"].look()
    assert "give the evaluation fresh another name" in caught.value.hint
    if change.startswith("arms"):
        assert changed["fresh/both/seed-1"].look().is_finished


def test_a_study_that_was_moved_keeps_its_answers(tmp_path: Path) -> None:
    write_answers(make_study(tmp_path), "both", 1, [True])
    (tmp_path / "out").rename(tmp_path / "moved")
    jobs = {job.name: job for job in list_askings(make_study(tmp_path, changes=[f"out={tmp_path / 'moved'}"]))}
    assert jobs["fresh/both/seed-1"].look().is_finished


def test_processes_are_those_of_the_study_unless_an_arm_has_its_own(tmp_path: Path) -> None:
    study = make_study(tmp_path, PAIRS, changes=["num_processes=2", "arms.later.num_processes=3"])
    assert {job.arm: job.num_processes for job in list_trainings(study)} == {"both": 2, "later": 3}


def test_the_model_that_an_arm_begins_with_is_found_through_others(tmp_path: Path) -> None:
    study = make_study(tmp_path, PAIRS, changes=["arms.both.start=start", "arms.start.checkpoint=here"])
    assert {name: find_root(study, name) for name in study.arms} == dict.fromkeys(study.arms, "here")
    study = make_study(tmp_path, PAIRS, changes=["arms.start.checkpoint=here"])
    assert find_root(study, "later") == find_root(study, "first") == "nano-base"
