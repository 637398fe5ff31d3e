"""What a study would do and take: rows that are counted, times that were measured, and those that are reckoned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from p2r.errors import DataError
from p2r.evaluation.tables import Table
from p2r.files import write_lines
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import METRICS_FILE
from p2r.runs.training_log import Step
from p2r.studies import rows as counting
from p2r.studies import study as studies
from p2r.studies.joblist import find_root, list_askings, list_jobs, list_trainings
from p2r.studies.jobs import TrainJob
from p2r.studies.pace import measure_pace
from p2r.studies.plan import UNKNOWN_MINUTES, count_weights, tabulate_plan
from p2r.studies.rows import RowCounter
from p2r.studies.study import Study
from p2r.studies.trial import make_trial, name_steps
from tests.fakes.benchmark_files import hrbench_rows, write_parquet
from tests.fakes.paper_data import write_p2r10k
from tests.fakes.studies import make_study, write_answers

MORE = """
[arms.swapped]
recipe = "nano"
set = ["data.num_rows=64", 'schedule=[{role="reasoner", steps=30}, {role="perceiver", steps=40}]']
[arms.joint]
recipe = "nano"
start = "both"
set = ["data.num_rows=64", "control=joint"]
num_processes = 4

[[tables]]
title = "all"
evaluation = "fresh"
rows = [{ name = "a", arm = "swapped" }, { name = "b", arm = "joint" }]
columns = [{ name = "two looks" }, { name = "one look", mode = "direct" }]
"""


def arms_of(
    study: Study, *, rows: int | None = None, tflops: float | None = None
) -> tuple[dict[str, list[str]], Table]:
    table, _ = tabulate_plan(study, rows=rows, tflops=tflops)
    return {row[0]: list(row[1:]) for row in table.rows}, table


def take_steps(job: TrainJob, seconds: Sequence[float], *, is_finished: bool = False) -> None:
    """Leave a run whose phases have each taken these steps."""
    job.folder.mkdir(parents=True)
    (job.folder / RECIPE_FILE).write_text(job.recipe.model_dump_json(), encoding="utf-8")
    steps = [
        Step(phase=phase.name, step=place, timing={"seconds": each})
        for phase in job.recipe.phases()
        for place, each in enumerate(seconds, start=1)
    ]
    write_lines(job.folder / METRICS_FILE, steps)
    for phase in job.recipe.phases() if is_finished else ():
        (job.folder / phase.name).mkdir()


def test_before_anything_ran_minutes_are_unknown_and_it_is_said_how_to_get_them(tmp_path: Path) -> None:
    arms, table = arms_of(make_study(tmp_path, MORE))
    assert arms["both"][:4] == ["0, 1, 2", "0 of 3", "70", "8,960"]
    assert arms["both"][5:] == ["-", "-", "-"]
    assert table.notes.count(UNKNOWN_MINUTES) == 1 and "--trial" in UNKNOWN_MINUTES and "--tflops" in UNKNOWN_MINUTES


def test_minutes_are_those_of_steps_that_ran_without_the_first_and_of_all_processes_in_gpu_hours(
    tmp_path: Path,
) -> None:
    study = make_study(tmp_path, MORE, changes=["num_processes=2"])
    jobs = {job.name: job for job in list_trainings(study)}
    take_steps(jobs["both/seed-0"], [100.0, 12.0, 24.0], is_finished=True)
    arms, table = arms_of(study)
    assert arms["both"][1] == "1 of 3"
    assert arms["both"][5:] == ["21.0", "0.70", "what ran"]  # 70 steps of 18 s, two processes
    assert arms["swapped"][5:] == ["21.0", "0.70", "what ran"], "its phases are those of `both` in another order"
    assert arms["joint"][5:] == ["-", "-", "-"], "a phase of its own, and four processes"
    assert arms["all seeds together"][5:] == ["-", "-", ""]
    assert any("--trial measures it" in note for note in table.notes)
    assert UNKNOWN_MINUTES not in table.notes


def test_a_trial_tells_minutes_until_an_arm_has_run(tmp_path: Path) -> None:
    study = make_study(tmp_path, MORE)
    for job in list_trainings(make_trial(study)):
        take_steps(job, [100.0, 6.0], is_finished=True)
    arms, _ = arms_of(study)
    assert arms["both"][5:] == ["7.0", "0.12", "the trial"]
    assert arms["joint"][6:] == ["0.47", "the trial"]  # 70 steps of 6 s, four processes
    assert arms["all seeds together"][5:7] == ["63.0 left", "2.10 left"]
    take_steps(list_trainings(study)[0], [1.0, 12.0], is_finished=True)
    arms, _ = arms_of(study)
    assert arms["both"][5:] == ["14.0", "0.23", "what ran"]
    assert arms["all seeds together"][5:7] == ["91.0 left", "2.57 left"]  # 2 + 3 of 14 minutes, 3 of 7


def test_a_trial_takes_each_kind_of_phase_and_each_way_of_asking_once(tmp_path: Path) -> None:
    study = make_study(tmp_path, MORE)
    trial = make_trial(study)
    assert trial.out == study.out / "trial"
    trained = list_trainings(trial)
    assert [job.arm.rpartition("-")[0] for job in trained] == ["both", "joint"], "swapped has no phase of its own"
    assert [[phase.steps for phase in job.recipe.phases()] for job in trained] == [[2, 2], [4]]
    assert {job.recipe.model.source for job in trained} == {find_root(study, "both")}
    assert [job.num_processes for job in trained] == [1, 4]
    by_model = {(job.model, job.modes, job.questions.num) for job in list_askings(trial)}
    assert by_model == {("nano-base", ("direct", "p2r"), 16)}
    keys = {name_steps(study, job, phase) for job in list_trainings(study) for phase in job.recipe.phases()}
    assert {name_steps(trial, job, phase) for job in trained for phase in job.recipe.phases()} == keys
    assert {job.name for job in list_jobs(make_trial(study))} == {job.name for job in list_jobs(trial)}


def test_a_trial_asks_no_more_than_the_study_does(tmp_path: Path) -> None:
    trial = make_trial(make_study(tmp_path, MORE, changes=["evaluations.fresh.num=5"]))
    assert [job.questions.num for job in list_askings(trial)] == [5]


def test_what_has_changed_is_tried_again(tmp_path: Path) -> None:
    names = [
        {job.name for job in list_jobs(make_trial(make_study(tmp_path, MORE, changes=changes)))}
        for changes in ([], ["set=['rollout.group_size=2']"], ["evaluations.fresh.num_at_once=4"])
    ]
    assert not {name for name in names[0] if not name.startswith("fresh")} & names[1]
    assert not {name for name in names[0] if name.startswith("fresh")} & names[2]


def test_minutes_of_questions_are_by_answers_of_the_same_kind(tmp_path: Path) -> None:
    study = make_study(tmp_path, MORE)
    write_answers(study, "both", 0, [True] * 4, seconds=8.0)
    _, table = tabulate_plan(study)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["fresh/both/seed-0"] == ("p2r", "40", "yes", "1.3", "what ran")  # 40 of 2 s
    assert rows["fresh/both/seed-1"] == ("p2r", "40", "no", "1.3", "what ran")
    assert rows["fresh/swapped/seed-0"] == ("direct, p2r", "80", "no", "-", "-")


def test_questions_are_counted_in_their_files_or_as_published(tmp_path: Path) -> None:
    write_parquet(tmp_path / "4k.parquet", hrbench_rows(2))

    def count(*changes: str) -> tuple[str, Table]:
        table = tabulate_plan(make_study(tmp_path, changes=changes))
        return {row[0]: row[2] for row in table[1].rows}["fresh/start"], table[0]

    here = f"evaluations.fresh.benchmark=hrbench_4k:{tmp_path}/4k.parquet"
    assert count(here)[0] == "8"
    assert count(here, "evaluations.fresh.num=4")[0] == "4"
    num, table = count("evaluations.fresh.benchmark=hrbench_8k:/none", "evaluations.fresh.num=900")
    assert num == "800"
    assert "Questions are counted as published where files cannot be read here: fresh." in table.notes
    assert count("evaluations.fresh.benchmark=reasonseg:/none/val", "evaluations.fresh.num=900")[0] == "200"
    num, table = count("evaluations.fresh.benchmark=folder:/none")
    assert num == "-"
    assert sum(note.startswith("The questions of fresh are unknown: ") for note in table.notes) == 1


def test_hours_are_reckoned_where_nothing_was_measured_and_the_assumption_is_said(tmp_path: Path) -> None:
    study = make_study(tmp_path, MORE)
    arms, table = arms_of(study, tflops=0.5)
    assert {row[7] for name, row in arms.items() if name != "all seeds together"} == {"0.5 TFLOP/s"}
    hours = {name: float(row[6]) for name, row in arms.items() if name != "all seeds together"}
    twice = {name: float(row[6]) for name, row in arms_of(study, tflops=0.25)[0].items() if name in hours}
    assert all(twice[name] == pytest.approx(2 * hours[name], abs=0.02) for name in hours)
    minutes = {name: float(row[5]) for name, row in arms.items() if name in hours}
    assert minutes["joint"] * 4 / 60 == pytest.approx(hours["joint"], abs=0.02)
    assert sum(note.startswith("0.5 TFLOP/s: ") for note in table.notes) == 1


def test_weights_are_those_of_a_checkpoint_here_or_of_a_listed_model(tmp_path: Path) -> None:
    assert count_weights("Qwen/Qwen3-VL-4B-Instruct") == 4_437_815_808
    assert count_weights("nano-base") == count_weights("nano")


PASSES = """
[arms.long]
recipe = "qwen3_vl_4b"
set = ["data.source=p2r10k:{rows}", "model.source={model}"]
[[tables]]
title = "long"
evaluation = "fresh"
rows = [{{ name = "a", arm = "long" }}]
columns = [{{ name = "two looks" }}]
"""


def test_rows_are_counted_without_a_model_where_it_is_not_on_this_machine(tmp_path: Path) -> None:
    write_p2r10k(tmp_path / "rows", 200)
    study = make_study(tmp_path, PASSES.format(rows=tmp_path / "rows", model="owner/not-here"))
    arms, table = arms_of(study)
    assert arms["long"][2] == "6", "three steps of 64 rows in each of two phases"
    assert (
        "Rows whose prompts are too long are counted too, because owner/not-here is not on this machine." in table.notes
    )
    few = make_study(
        tmp_path, PASSES.format(rows=tmp_path / "rows", model="owner/not-here"), changes=["set=['data.num_rows=130']"]
    )
    assert arms_of(few)[0]["long"][2] == "4"
    arms, table = arms_of(study, tflops=1.0)
    assert arms["long"][5] == "-"
    assert "The number of weights of owner/not-here is not known: it is not on this machine." in table.notes


def test_rows_that_are_not_there_are_told_or_assumed(tmp_path: Path) -> None:
    study = make_study(tmp_path, PASSES.format(rows=tmp_path / "none", model="owner/not-here"))
    arms, table = arms_of(study)
    assert arms["long"][2:5] == ["-", "-", "-"]
    assert sum(note.startswith("Steps are unknown where rows cannot be counted: ") for note in table.notes) == 1
    arms, table = arms_of(study, rows=640)
    assert arms["long"][2:4] == ["20", "10,240"]
    assert sum(note.startswith("640 rows are assumed where they cannot be counted: ") for note in table.notes) == 1


def test_arms_that_share_rows_have_them_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(recipe: studies.Recipe, notes: object) -> dict[str, int]:
        calls.append(recipe.model.source)
        raise DataError("nothing there")

    monkeypatch.setattr(counting, "_count_rows", count)
    study = make_study(tmp_path)
    source = "recipes/qwen3_vl_4b/pra_grpo.toml"
    counter = RowCounter(assumed=64)
    for changes in ([], ['schedule=[{role="reasoner"}, {role="perceiver"}]'], ["control=joint"], ["loss.kl_coef=0.1"]):
        recipe = studies.load_recipe(Path(__file__).parents[3] / source, changes)
        assert set((counter.count(recipe) or {}).values()) == {64}
    assert len(calls) == 1
    recipe = studies.load_recipe(Path(__file__).parents[3] / source, ['schedule=[{role="reasoner"}]'])
    counter.count(recipe)
    assert len(calls) == 2, "rows only have to fit the reasoner's prompt"
    assert study.seeds


def test_each_recipe_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path, MORE)
    read: list[object] = []
    load = studies.load_recipe

    def count(path: str, changes: Sequence[str] = ()) -> studies.Recipe:
        read.append((path, *changes))
        return load(path, changes)

    monkeypatch.setattr(studies, "load_recipe", count)
    list_jobs(study)
    list_jobs(study)
    measure_pace(study)
    assert len(read) == len(set(read))
    trained = {job.name: job for job in list_trainings(study)}
    assert trained["both/seed-1"].recipe is list_trainings(study)[1].recipe


def test_rows_that_an_arm_keeps_by_their_difficulty_are_planned_where_it_starts_from_another(tmp_path: Path) -> None:
    more = """
[arms.kept]
recipe = "nano"
start = "both"
set = ["data.num_rows=8", 'schedule=[{role="reasoner", steps=2, data={difficulty={num_rollouts=4, keep="easy"}}}]']

[[tables]]
title = "x"
evaluation = "fresh"
rows = [{ name = "kept", arm = "kept" }]
columns = [{ name = "accuracy" }]
"""
    arms, _ = arms_of(make_study(tmp_path, more))
    assert arms["kept"][2] == "2"
