"""The scheduler, with real commands: what runs when, what is tried again, what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2r.errors import ConfigError, StorageError
from p2r.files import Log
from p2r.studies import run as running
from p2r.studies.jobs import Progress
from p2r.studies.run import (
    SESSIONS_FILE,
    STUDY_FILE,
    JobState,
    check_questions,
    count_by_status,
    read_last_words,
    run_study,
)
from p2r.studies.study import Study
from tests.fakes.studies import make_study


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
    assert states["broken"].reason.startswith("error: nowhere")
    sessions = running.read_sessions(study.out)
    assert [each.job for each in sessions if each.job != "broken"] == ["first", "second"]
    assert [each.exit_code for each in sessions if each.job == "first"] == [0]
    assert all(each.processor_s > 0.05 for each in sessions), "the time of the command is counted, not of its keeper"


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
    assert read_last_words(log) == "error: the disk is full"
    log.write_text("Killed\n", encoding="utf-8")
    assert read_last_words(log) == "Killed"


def test_a_broken_list_of_sessions_is_told(tmp_path: Path) -> None:
    with Log(tmp_path / SESSIONS_FILE) as log:
        log.write({"job": 3})
    with pytest.raises(StorageError, match="line 1"):
        running.read_sessions(tmp_path)
