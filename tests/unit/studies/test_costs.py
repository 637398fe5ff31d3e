"""What arms and answers cost, and the hashes by which an arm is known again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from p2r.files import Log
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import METRICS_FILE
from p2r.studies.costs import measure_costs, tabulate_answers, tabulate_costs
from p2r.studies.joblist import list_trainings
from p2r.studies.jobs import TrainJob
from p2r.studies.measure import Reader
from p2r.studies.sessions import SESSIONS_FILE, JobSession
from p2r.studies.weights import tabulate_weights
from tests.fakes.studies import make_study, write_answers, write_training

CHART = """
[[costs]]
title = "Cost"
evaluation = "fresh"
points = [{ name = "one look", arm = "start", mode = "direct" }, { name = "trained", arm = "first" }]
"""


def train(job: TrainJob, num_steps: int = 2) -> None:
    """Leave a finished run of so many steps a phase, of a second, 10 rollouts, 100 tokens written and 300 learned."""
    job.folder.mkdir(parents=True)
    (job.folder / RECIPE_FILE).write_text(job.recipe.model_dump_json(), encoding="utf-8")
    rows = [
        {
            "phase": phase.name, "step": step, "num_rollouts": 10, "num_generated_tokens": 100,
            "num_trained_tokens": 300, "timing": {"seconds": 1},
        }
        for phase in job.recipe.phases()
        for step in range(1, num_steps + 1)
    ]  # fmt: skip
    (job.folder / METRICS_FILE).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    for phase in job.recipe.phases():
        (job.folder / phase.name).mkdir()
        (job.folder / phase.name / "model.safetensors").write_bytes(f"{phase.name} {job.seed}".encode())


def test_a_phase_costs_what_its_arm_needed_until_then(tmp_path: Path) -> None:
    study = make_study(tmp_path, CHART)
    for job in list_trainings(study)[:2]:
        train(job)
    with Log(study.out / SESSIONS_FILE) as log:
        for name, seconds in (("both/seed-0", 50), ("fresh/both/seed-0", 1000), ("both/seed-0", 30)):
            log.write(JobSession(job=name, started="x", wall_s=100, processor_s=seconds, exit_code=0))
    [both, first] = measure_costs(study, Reader(study))
    assert (both.arm, both.num_seeds, both.num_planned, both.num_steps, both.num_rollouts) == ("both", 2, 3, 4, 40)
    assert (first.arm, first.num_seeds, first.num_steps, first.num_rollouts) == ("first", 2, 2, 20)
    assert (both.num_generated_tokens, first.num_generated_tokens) == (400, 200)
    assert (both.num_trained_tokens, first.num_trained_tokens) == (1200, 600)
    assert (both.processor_s, first.processor_s) == (80, 40)


def test_what_an_arm_cost_is_told_in_minutes_beside_its_seeds(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    job = list_trainings(study)[0]
    train(job)
    with Log(study.out / SESSIONS_FILE) as log:
        log.write(JobSession(job=job.name, started="x", wall_s=100, processor_s=90, exit_code=0))
    table = tabulate_costs(measure_costs(study, Reader(study)))
    assert table.columns[2:] == ("steps", "rollouts", "generated tokens", "trained tokens", "processor minutes")
    assert table.rows[0] == ("both", "1 of 3", "4", "40", "400", "1,200", "1.5")


def test_a_phase_of_an_arm_that_nothing_needs_costs_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["claims.0.plus=[{arm='start', mode='direct'}]"])
    assert measure_costs(study, Reader(study)) == []


def test_weights_are_told_by_a_hash_with_the_command_that_makes_them(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["threads=3"])
    assert tabulate_weights(study, Reader(study)).rows == (("-", "-", "-"),)
    jobs = list_trainings(study)
    for job in jobs[:2]:
        train(job)
    table = tabulate_weights(study, Reader(study))
    assert [row[0] for row in table.rows] == ["both/seed-0", "both/seed-1"]
    assert all(len(row[1]) == 16 for row in table.rows)
    assert table.rows[0][1] != table.rows[1][1]
    assert table.rows[1][2].startswith("p2r train nano --set data.num_rows=64 --set seed=1 --set out=")
    assert "--resume" not in table.rows[1][2]
    assert "OMP_NUM_THREADS=3" in table.notes[0]
    before = table.rows[0][1]
    (jobs[0].folder / jobs[0].recipe.phases()[0].name / "model.safetensors").write_bytes(
        b"the first phase is not asked"
    )
    assert tabulate_weights(study, Reader(study)).rows[0][1] == before
    (jobs[0].folder / jobs[0].recipe.phases()[-1].name / "model.safetensors").write_bytes(b"other")
    assert tabulate_weights(study, Reader(study)).rows[0][1] != before
    (jobs[0].folder / jobs[0].recipe.phases()[-1].name / "model.safetensors").unlink()
    assert tabulate_weights(study, Reader(study)).rows[0][1] == "-", "nothing was hashed"


def test_a_training_is_read_once(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    job = list_trainings(study)[0]
    reader = Reader(study)
    train(job)
    assert reader.training_of(job) is reader.training_of(job) is not None
    assert reader.training_of(list_trainings(study)[1]) is None


def test_a_copy_without_weights_says_the_hash_that_was_written_when_they_were_made(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    jobs = list_trainings(study)
    for job in jobs[:2]:
        train(job)
    here = tabulate_weights(study, Reader(study)).rows[1][1]
    shutil.rmtree(jobs[0].folder / jobs[0].recipe.phases()[-1].name)
    (jobs[0].folder / jobs[0].recipe.phases()[-1].name).mkdir()
    with Log(study.out / SESSIONS_FILE) as log:
        for job, weights in ((jobs[0], ""), (jobs[0], "an earlier one"), (jobs[0], "as made"), (jobs[1], "another")):
            log.write(JobSession(job=job.name, started="x", wall_s=9, processor_s=30, exit_code=0, weights=weights))
    assert [row[1] for row in tabulate_weights(study, Reader(study)).rows] == ["as made", here]


def test_an_answer_costs_tokens_and_time(tmp_path: Path) -> None:
    study = make_study(tmp_path, CHART)
    write_answers(study, "start", None, [True, False], mode="direct")
    folder = next((study.out / "answers").rglob("direct"))
    clock = [{"started": "a", "seconds": 4.0, "num_asked": 2}]
    (folder / "clock.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in clock), encoding="utf-8")
    for seed in (0, 1):
        write_answers(study, "first", seed, [True, True], num_tokens=300)
    table = tabulate_answers(study.costs[0], Reader(study))
    assert table.columns == ("", "accuracy", "tokens", "samples/s")
    [one, trained] = table.rows
    assert one[0] == "one look" and one[1].startswith("50.0% [") and one[2].startswith("100 [") and one[3] == "0.50"
    assert trained[2].startswith("300 [") and trained[3] == "-"
    assert len(table.notes) == 1


def test_the_note_of_a_chart_of_costs_is_below_its_table(tmp_path: Path) -> None:
    study = make_study(tmp_path, CHART.replace("points", 'note = "Asked at night."\npoints'))
    assert tabulate_answers(study.costs[0], Reader(study)).notes[0] == "Asked at night."


@pytest.mark.parametrize("seeds", [(2.0,), (1.0, 3.0)])
def test_speed_is_the_mean_of_the_seeds(tmp_path: Path, seeds: tuple[float, ...]) -> None:
    study = make_study(tmp_path, CHART)
    for seed, seconds in enumerate(seeds):
        write_answers(study, "first", seed, [True, True])
        folder = study.out / f"answers/fresh/first/seed-{seed}/needles/p2r"
        row = {"started": "a", "seconds": seconds, "num_asked": 2}
        (folder / "clock.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    shown = tabulate_answers(study.costs[0], Reader(study)).rows[1][3]
    assert shown == f"{sum(2 / each for each in seeds) / len(seeds):.2f}"


def test_minutes_are_those_of_the_whole_command_where_no_step_was_timed(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    job = list_trainings(study)[0]
    write_training(job)
    with Log(study.out / SESSIONS_FILE) as log:
        log.write(JobSession(job=job.name, started="x", wall_s=9, processor_s=30, exit_code=0))
    assert measure_costs(study, Reader(study))[0].processor_s == 30
