"""What is checked before a study runs: categories, gold boxes, and that nothing is mixed with what lies there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from p2r.errors import ConfigError, StorageError
from p2r.files import Log, replace_file, write_lines
from p2r.runs.evaluation import SAMPLES_FILE, Run, read_run
from p2r.runs.store import SETTINGS_FILE
from p2r.studies import jobs
from p2r.studies.check import check_order, check_questions, check_record, look_at
from p2r.studies.joblist import list_askings, list_files, list_jobs, list_trainings
from p2r.studies.jobs import FilesJob
from p2r.studies.run import STUDY_FILE, run_study
from p2r.studies.sessions import SESSIONS_FILE, JobSession
from p2r.studies.study import Study
from tests.fakes.studies import build_page, make_study, write_answers, write_training

LATER = """
[arms.later]
recipe = "nano"
start = "both"

[[claims]]
name = "later"
says = "x"
evaluation = "fresh"
plus = [{ arm = "later" }]
"""


def test_a_category_that_no_question_has_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    check_questions(make_study(tmp_path, changes=["claims.0.category=pair"]))
    study = make_study(tmp_path, changes=["claims.0.category=pear"])
    with pytest.raises(ConfigError, match="evaluation fresh has no category 'pear'") as caught:
        run_study(study)
    assert caught.value.hint.startswith("it has ") and "pair" in caught.value.hint
    assert not study.out.exists()


def test_a_category_that_few_questions_happen_to_lack_is_not(tmp_path: Path) -> None:
    check_questions(make_study(tmp_path, changes=["claims.0.category=pair", "evaluations.fresh.num=1"]))
    check_questions(make_study(tmp_path, changes=["claims.0.category=relation", "evaluations.fresh.num=1"]))


def test_a_claim_about_boxes_needs_questions_with_gold_boxes(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    rows.write_text(
        '{"image": "a.png", "question": "Which?", "options": ["a", "b"], "answer": "A"}\n', encoding="utf-8"
    )
    changes = [f"evaluations.fresh.benchmark=folder:{tmp_path}"]
    check_questions(make_study(tmp_path, changes=changes))
    check_questions(make_study(tmp_path, changes=[*changes, "claims.0.measure=boxes"]))
    check_questions(make_study(tmp_path, changes=[*changes, "claims.0.measure=reading", "claims.0.mode=direct"]))
    for measure in ("hit rate", "in crops", "IoU", "reading"):
        with pytest.raises(ConfigError, match=f"{measure}', and no question of evaluation fresh has gold boxes"):
            check_questions(make_study(tmp_path, changes=[*changes, f"claims.0.measure={measure}"]))
    table = '\n[[tables]]\ntitle = "x"\nevaluation = "fresh"\nrows = [{ name = "a", arm = "start" }]\n'
    table += 'columns = [{ name = "hits", measure = "hit rate" }]\n'
    check_questions(make_study(tmp_path, table, changes=changes))  # a table shows a dash


def test_answers_to_questions_that_have_changed_in_their_file_are_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["evaluations.fresh.num=2"])
    write_answers(study, "start", None, [True, False])
    [job] = [job for job in list_askings(study) if job.arm == "start"]
    place = job.find("p2r")
    assert place is not None
    chosen = check_questions(study)

    def check(fingerprint: str, ids: Sequence[str]) -> None:
        known = {"model": "nano-base", "benchmark_fingerprint": fingerprint, "limit": 2, "seed": 9000}
        replace_file(place / SETTINGS_FILE, json.dumps(known))
        write_lines(place / SAMPLES_FILE, [{"sample_id": each} for each in ids])
        look_at([job], chosen, {})

    ids = ["needles:9000/0", "needles:9000/1"]
    check("", ids)
    check("", [])
    check(chosen["fresh"].fingerprint, ids)
    with pytest.raises(StorageError, match="answers to other questions than needles has now") as caught:
        check("0123456789ab", ids)
    assert "move the folder away" in caught.value.hint
    for lost in ([], ids[:1], [ids[0], "needles:9000/7"]):
        with pytest.raises(StorageError, match=r"where 2 are asked: samples\.jsonl is damaged"):
            check(chosen["fresh"].fingerprint, lost)
    with pytest.raises(StorageError, match="is damaged"):
        run_study(study, resume=True)


def test_every_folder_of_answers_is_read_once_before_a_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path, changes=["evaluations.fresh.num=2"])
    write_answers(study, "start", None, [True, False])
    read: list[Path] = []

    def count(folder: Path) -> Run:
        read.append(folder)
        return read_run(folder)

    monkeypatch.setattr(jobs, "read_run", count)
    looked = {each.job.name: each for each in look_at(list_jobs(study), check_questions(study), {})}
    assert len(read) == 1
    assert looked["fresh/start"].progress.done == 2


def check_order_of(study: Study, begun: Mapping[str, str]) -> None:
    check_order(look_at(list_jobs(study), {}, begun), begun)


def test_what_was_made_with_an_arm_that_is_gone_is_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path, LATER, changes=["seeds=[0]"])
    both, later = list_trainings(study)
    write_training(later)
    with pytest.raises(StorageError, match="made with both/seed-0, which is not there or not finished") as caught:
        run_study(study, resume=True)
    assert "move that of later/seed-0 away" in caught.value.hint
    write_training(both, is_finished=False)
    with pytest.raises(StorageError, match="not there or not finished"):
        check_order_of(study, {})
    for phase in both.recipe.phases():
        (both.folder / phase.name).mkdir()
    check_order_of(study, {})


def test_an_arm_that_started_from_one_that_was_trained_again_is_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path, LATER, changes=["seeds=[0]"])
    for job in list_trainings(study):
        write_training(job)
    times = {"both/seed-0": "2026-01-01T10:00:00+00:00", "later/seed-0": "2026-01-01T11:00:00+00:00"}
    check_order_of(study, times)
    check_order_of(study, {"both/seed-0": "2026-01-01T10:00:00+00:00"})
    times["both/seed-0"] = "2026-01-01T12:00:00+00:00"
    with pytest.raises(StorageError, match="what was made before both/seed-0 was trained again"):
        check_order_of(study, times)


FILES = """
[files.rows]
module = "recipes.pebr_r1.captions"
last = "held_out.jsonl"
args = ["--train", "9"]
"""


def make_files(study: Study) -> tuple[FilesJob, Path]:
    [job] = list_files(study)
    job.folder.mkdir(parents=True)
    (job.folder / job.last).touch()
    replace_file(study.out / STUDY_FILE, study.model_dump_json())
    return job, study.out / STUDY_FILE


def test_rows_are_needed_until_all_that_is_trained_on_them_is(tmp_path: Path) -> None:
    changes = ["seeds=[0,1]", 'arms.both.set=["data.source={files.rows}/train.jsonl"]']
    study = make_study(tmp_path, FILES, changes=changes)
    first, second = list_trainings(study)
    write_training(first)
    with pytest.raises(StorageError, match="both/seed-0 was made with files/rows, which is not there"):
        check_order_of(study, {})
    write_training(second)
    check_order_of(study, {})
    assert [each.job.name for each in look_at(list_jobs(study), {}, {}) if not each.progress.is_finished] == [
        "fresh/start",
        "fresh/both/seed-0",
        "fresh/both/seed-1",
    ]
    assert "<td>not needed any more</td>" in build_page(study, "p2r study study.toml")


@pytest.mark.parametrize("change", ['files.rows.args=["--train","8"]', "files.rows.module=recipes.other"])
def test_rows_that_another_command_made_are_refused(tmp_path: Path, change: str) -> None:
    study = make_study(tmp_path, FILES)
    job, record = make_files(study)
    check_record(look_at([job], {}, {}), study, record)
    [changed] = list_files(make_study(tmp_path, FILES, changes=[change]))
    with pytest.raises(StorageError, match=r"python -m recipes[.]pebr_r1[.]captions --train 9") as caught:
        check_record(look_at([changed], {}, {}), study, record)
    assert "arms that learned from it" in caught.value.hint
    record.unlink()
    check_record(look_at([changed], {}, {}), study, record)


def test_rows_are_not_compared_before_they_are_made_and_a_damaged_record_is_told(tmp_path: Path) -> None:
    study = make_study(tmp_path, FILES)
    job, record = make_files(study)
    [changed] = list_files(make_study(tmp_path, FILES, changes=["files.rows.module=recipes.other"]))
    replace_file(record, '{"files": {"rows"')
    with pytest.raises(StorageError, match="does not say how the study was run before") as caught:
        check_record(look_at([job], {}, {}), study, record)
    assert "remove it" in caught.value.hint
    (job.folder / job.last).unlink()
    check_record(look_at([changed], {}, {}), study, record)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("threads=2", "trained with threads = 1, and the study says 2 now"),
        ("num_processes=3", "trained with num_processes = 1, and the study says 3 now"),
        ("arms.both.num_processes=2", "trained with num_processes = 1, and the study says 2 now"),
        ("arms.both.num_processes=1", ""),
    ],
)
def test_an_arm_that_was_trained_on_other_processors_is_refused(tmp_path: Path, change: str, said: str) -> None:
    study = make_study(tmp_path, changes=["seeds=[0]"])
    [job] = list_trainings(study)
    write_training(job, is_finished=False)
    replace_file(study.out / STUDY_FILE, study.model_dump_json())
    changed = make_study(tmp_path, changes=["seeds=[0]", change])
    looked = look_at(list_trainings(changed), {}, {})
    if said:
        with pytest.raises(StorageError, match=said) as caught:
            check_record(looked, changed, study.out / STUDY_FILE)
        assert " to 1 again" in caught.value.hint
    else:
        check_record(looked, changed, study.out / STUDY_FILE)


def test_a_study_that_was_stopped_compares_its_files_when_it_is_continued(tmp_path: Path) -> None:
    used = ['arms.both.set=["data.source={files.rows}/train.jsonl"]', "seeds=[0]"]
    study = make_study(tmp_path, FILES, changes=used)
    make_files(study)
    with Log(study.out / SESSIONS_FILE) as log:
        log.write(JobSession(job="files/rows", started="x", wall_s=1, processor_s=1, exit_code=0))
    changed = make_study(tmp_path, FILES, changes=[*used, "files.rows.module=recipes.other"])
    with pytest.raises(StorageError, match="made by another command"):
        run_study(changed, resume=True)
