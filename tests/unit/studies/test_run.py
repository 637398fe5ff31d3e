"""The scheduler, with real commands: what runs when, what is tried again, what is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pytest

from p2r.errors import ConfigError, StorageError
from p2r.files import Log, lock_folder, unlock_folder
from p2r.studies import run as running
from p2r.studies.check import check_checkpoints, check_questions
from p2r.studies.joblist import list_jobs, list_trainings
from p2r.studies.jobs import FilesJob, Progress
from p2r.studies.run import (
    STUDY_FILE,
    JobState,
    count_by_status,
    read_last_words,
    run_study,
)
from p2r.studies.sessions import SESSIONS_FILE, JobSession, read_sessions
from p2r.studies.study import Study
from p2r.training import keeper
from tests.fakes.benchmark_files import hrbench_rows, write_parquet
from tests.fakes.studies import make_study, write_answers, write_training


@dataclass
class FakeJob:
    """A command of p2r that leaves nothing behind; it has finished once it was run and `works`."""

    name: str
    command: list[str]
    needs: tuple[str, ...] = ()
    works: bool = True
    num_looks: int = 0
    module: str = "p2r"
    order: list[str] = field(default_factory=list[str])

    def look(self) -> Progress:
        self.num_looks += 1
        return Progress(0, None, is_finished=self.works and self.num_looks > 1)


def run_jobs(
    study: Study, jobs: Sequence[FakeJob], monkeypatch: pytest.MonkeyPatch, num_jobs: int = 2
) -> list[JobState]:
    monkeypatch.setattr(running, "list_jobs", lambda _: list(jobs))
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.05)
    return run_study(study, num_jobs=num_jobs)


def test_jobs_wait_for_what_they_need_and_a_failed_one_is_tried_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path)
    jobs = [
        FakeJob("first", ["--version"]),
        FakeJob("second", ["--version"], needs=("first",)),
        FakeJob("broken", ["score", "nowhere"], works=False),
        FakeJob("after it", ["--version"], needs=("broken",)),
    ]
    states = {state.job.name: state for state in run_jobs(study, jobs, monkeypatch)}
    assert {name: state.status for name, state in states.items()} == {
        "first": "finished", "second": "finished", "broken": "failed", "after it": "blocked",
    }  # fmt: skip
    assert count_by_status(list(states.values())) == {"finished": 2, "failed": 1, "blocked": 1}
    assert states["broken"].num_tries == 2
    assert states["after it"].num_tries == 0
    assert states["broken"].reason.startswith("nowhere")
    sessions = read_sessions(study.out)
    assert [each.job for each in sessions if each.job != "broken"] == ["first", "second"]
    assert [each.exit_code for each in sessions if each.job == "first"] == [0]
    assert all(each.processor_s > 0.05 for each in sessions), "the time of the command is counted, not of its keeper"


def test_a_script_that_ends_well_and_writes_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path)
    job = FilesJob("files/rows", "rows", "this", (), study.out / "files/rows", "rows.jsonl")
    learner = replace(list_trainings(study)[0], files=(job.name,))
    monkeypatch.setattr(running, "list_jobs", lambda _: [job, learner])
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.05)
    state, blocked = run_study(study)
    assert (state.status, blocked.status) == ("failed", "blocked")
    assert state.reason == f"this ended without an error, and has not written {study.out}/files/rows/rows.jsonl"


def test_prompts_that_are_not_there_stop_a_study_before_it_trains(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["evaluations.fresh.prompts=relase"])
    with pytest.raises(ConfigError, match="evaluation fresh: the prompt set 'relase' is neither") as caught:
        run_study(study)
    assert "release" in caught.value.hint
    assert not study.out.exists()


def test_what_is_wrong_with_questions_is_called_as_in_a_study(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fresh: needles") as caught:
        check_questions(make_study(tmp_path, changes=["evaluations.fresh.split=test"]))
    assert caught.value.message.endswith("it takes no split")


def test_a_folder_with_a_study_is_continued_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path)
    run_jobs(study, [], monkeypatch)
    assert (study.out / STUDY_FILE).exists()
    with pytest.raises(StorageError, match="holds a study already") as caught:
        run_study(study)
    assert "resume=True" in caught.value.hint
    assert run_study(study, resume=True) == []


def test_a_benchmark_that_cannot_be_loaded_stops_a_study_before_it_trains(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=['evaluations.fresh.benchmark="nowhere"'])
    with pytest.raises(ConfigError, match=r"evaluation fresh: .*nowhere"):
        run_study(study)
    assert not study.out.exists()


def test_a_mode_that_the_questions_do_not_suit_stops_a_study_before_it_trains(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"image": "a.png", "question": "Which?", "options": ["a", "b"], "answer": "A"}\n', encoding="utf-8"
    )
    more = '\n[[tables]]\ntitle = "x"\nevaluation = "fresh"\nrows = [{ name = "a", arm = "start" }]\n'
    more += 'columns = [{ name = "oracle", mode = "oracle" }]\n'
    study = make_study(tmp_path, more, changes=[f"evaluations.fresh.benchmark=folder:{tmp_path}"])
    with pytest.raises(ConfigError, match="evaluation fresh: "):
        check_questions(study)


def test_the_reason_is_the_last_error_that_was_printed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_last_words(log) == ""
    log.write_text("loading\nerror: the disk is full\nhint: make room\n\n", encoding="utf-8")
    assert read_last_words(log) == "the disk is full"
    log.write_text("ValueError: x\n", encoding="utf-8")
    assert read_last_words(log) == "ValueError: x"
    log.write_text("Killed\n", encoding="utf-8")
    assert read_last_words(log) == "Killed"


def test_a_broken_list_of_sessions_is_told(tmp_path: Path) -> None:
    with Log(tmp_path / SESSIONS_FILE) as log:
        log.write({"job": 3})
    with pytest.raises(StorageError, match="line 1"):
        read_sessions(tmp_path)


def test_a_checkpoint_that_is_not_there_stops_a_study_before_it_trains(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["arms.start.checkpoint=./nowhere"])
    with pytest.raises(ConfigError, match=r"arm start: there is no checkpoint folder \./nowhere"):
        run_study(study)
    assert not study.out.exists()
    check_checkpoints(make_study(tmp_path, changes=["arms.start.checkpoint=http://localhost:1/v1"]))
    check_checkpoints(make_study(tmp_path, changes=["arms.start.checkpoint=owner/on-the-hub"]))


def test_a_limit_that_is_too_small_is_told_by_the_name_that_a_study_has_for_it(tmp_path: Path) -> None:
    write_parquet(tmp_path / "4k.parquet", hrbench_rows(1))
    changes = [f"evaluations.fresh.benchmark=hrbench_4k:{tmp_path}/4k.parquet", "evaluations.fresh.num=2"]
    with pytest.raises(ConfigError, match="evaluation fresh: a limit of 2") as caught:
        check_questions(make_study(tmp_path, changes=changes))
    assert "give a larger num" in caught.value.hint


def test_answers_from_before_an_arm_was_trained_again_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path)
    write_answers(study, "both", 0, [True], seconds=1.0, started="2026-01-01T10:00:00.500000+00:00")
    [training] = [job for job in list_trainings(study) if job.seed == 0]
    write_training(training)
    jobs = [job for job in list_jobs(study) if job.name in ("both/seed-0", "fresh/both/seed-0")]
    for started, is_refused in (("2026-01-01T10:00:00+00:00", False), ("2026-01-01T10:00:01+00:00", True)):
        with Log(study.out / SESSIONS_FILE) as log:
            log.write(JobSession(job="both/seed-0", started=started, wall_s=1, processor_s=1, exit_code=0))
        monkeypatch.setattr(running, "list_jobs", lambda study: jobs)
        if is_refused:
            with pytest.raises(StorageError, match=r"before both/seed-0 was trained again") as caught:
                run_study(study, resume=True)
            assert "move that folder away" in caught.value.hint
        else:
            assert [state.status for state in run_study(study, resume=True)] == ["finished", "finished"]


def test_a_folder_that_another_process_writes_or_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    study.out.mkdir()
    handle = lock_folder(study.out)
    with pytest.raises(StorageError, match="another process is writing"):
        run_study(study)
    unlock_folder(handle)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="file"):
        run_study(make_study(tmp_path, changes=[f"out={tmp_path}/file/out"]))


def test_a_job_that_failed_is_tried_again_only_when_the_others_are_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path)
    jobs = [
        FakeJob("broken", ["score", "nowhere"], works=False),
        FakeJob("long", ["--version"]),
        FakeJob("longer", ["--version"], needs=("long",)),
    ]
    run_jobs(study, jobs, monkeypatch)
    sessions = read_sessions(study.out)
    assert [each.job for each in sessions if each.job != "broken"] == ["long", "longer"]
    assert sessions[-1].job == "broken" and sessions[-1].exit_code == 1
    ended = [datetime.fromisoformat(each.started).timestamp() + each.wall_s for each in sessions]
    assert datetime.fromisoformat(sessions[-1].started).timestamp() >= max(ended[:-1]) - 1.1, "in whole seconds"


def test_a_job_whose_folder_cannot_be_read_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path)
    jobs = [BrokenJob("damaged", ["--version"]), FakeJob("whole", ["--version"], needs=())]
    states = {state.job.name: state for state in run_jobs(study, jobs, monkeypatch, num_jobs=1)}
    assert (states["damaged"].status, states["damaged"].reason) == ("failed", "line 3 is not JSON")
    assert states["whole"].status == "finished"


class BrokenJob(FakeJob):
    """Leaves a folder that cannot be read."""

    def look(self) -> Progress:
        if super().look().is_finished:
            raise StorageError("line 3 is not JSON")
        return Progress(0, None, is_finished=False)


@pytest.mark.parametrize(("share", "num_looks"), [(1e-9, range(3, 4)), (1e9, range(11, 1000))])
def test_a_job_that_is_slow_to_look_at_is_looked_at_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, num_looks: range
) -> None:
    monkeypatch.setattr(running, "LOOK_SHARE", share)
    monkeypatch.setattr(running, "list_jobs", lambda _: [job])
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.01)
    (tmp_path / "wait_for_file.py").write_text(
        "import sys, time, pathlib\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\n", encoding="utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    job, changes = FakeJob("long", [str(tmp_path / "end")], module="wait_for_file"), 0

    def end_after_many(_: Sequence[JobState]) -> None:
        nonlocal changes
        changes += 1
        if changes == 11:
            (tmp_path / "end").touch()

    run_study(make_study(tmp_path), on_change=end_after_many)
    assert job.num_looks in num_looks, "before it runs, while it runs, and when it has ended"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the command by its record")
def test_a_command_whose_keeper_was_killed_is_ended_before_it_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path)
    script = tmp_path / "dawdle.py"
    script.write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    record = study.out / "logs/slow.json"
    seen: list[int] = []

    def kill_keeper(states: Sequence[JobState]) -> None:
        if states[0].status == "running" and record.exists() and (text := record.read_text(encoding="utf-8")):
            facts = json.loads(text)
            seen.append(facts["pid"])
            assert not any(keeper.started_at(pid) for pid in seen[:-1] if pid != facts["pid"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(facts["group"], signal.SIGKILL)  # the group's leader alone

    jobs = [FakeJob("slow", [], works=False, module="dawdle")]
    monkeypatch.setattr(running, "list_jobs", lambda _: jobs)
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.05)
    [state] = run_study(study, on_change=kill_keeper)
    assert (state.status, state.num_tries) == ("failed", 2)
    assert len(set(seen)) == 2
    assert not any(keeper.started_at(pid) for pid in seen)
    assert [each.exit_code for each in read_sessions(study.out)] == [137, 137]


def test_a_command_that_a_killed_call_has_left_is_ended_though_its_arm_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path)
    run_jobs(study, [], monkeypatch)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    facts = {"pid": process.pid, "group": process.pid, "started": keeper.started_at(process.pid), "command": []}
    (study.out / "logs/removed.seed-0.json").write_text(json.dumps(facts), encoding="utf-8")
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    assert run_study(study, resume=True) == []
    reaper.join(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert not (study.out / "logs/removed.seed-0.json").exists()
