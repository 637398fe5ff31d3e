"""How hard the rows of a training run are, on its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2r.errors import StorageError
from p2r.report.evaluation.sections import find_run_folders, list_run_folders
from p2r.report.kit.page import Headline
from p2r.report.training.page import build_training_report
from p2r.runs.asked import is_asked
from p2r.runs.difficulty import DIFFICULTY_FILE, HISTOGRAM_FILE, RowDifficulty
from p2r.runs.store import SETTINGS_FILE
from p2r.runs.training import TrainingRun, is_evidence, read_training_run
from tests.fakes.training_runs import write_run

KEEPING = [
    'schedule=[{role="answerer", data={difficulty={keep="easy"}}}, {role="answerer"}]',
    "data.difficulty.keep=medium",
    "data.difficulty.num_rollouts=2",
]
TITLE = "Rows by right answers before training"


def measure(folder: Path, *num_right: int) -> None:
    folder.mkdir(parents=True)
    rows = [
        RowDifficulty(
            id=f"{folder.name}{number}", num_judged=2, mean=None, variance=None, num_rollouts=2, num_right=right,
            num_wrong=2 - right,
        )
        for number, right in enumerate(num_right)
    ]  # fmt: skip
    (folder / DIFFICULTY_FILE).write_text("".join(row.model_dump_json() + "\n" for row in rows))


def show(*runs: TrainingRun) -> str:
    html, problems = build_training_report(runs, Headline("Training", "It goes up."))
    assert problems == []
    return html


@pytest.mark.parametrize("places", [["0-answerer"], ["0-answerer.0", "0-answerer.10", "0-answerer.2"]])
def test_a_shared_measurement_is_drawn_once(tmp_path: Path, places: list[str]) -> None:
    write_run(tmp_path / "run", changes=KEEPING)
    for place, right in zip(
        places, [[2, 1, 0, 1, 1, 1]] if len(places) == 1 else [[2, 1], [0, 1], [1, 1]], strict=True
    ):
        measure(tmp_path / "run/difficulty" / place, *right)
    run = read_training_run(tmp_path / "run")
    [measurement] = run.measurements
    assert measurement.phases == ("0-answerer", "1-answerer") and len(measurement.rows) == 6
    html = show(run)
    assert html.count(TITLE) == 1 and html.count('<table class="histogram">') == 1
    assert "<b>0-answerer (easy rows), 1-answerer (medium rows)</b> 6 rows: 1 easy, 4 medium, 1 hard" in html
    bars = re.findall(r'<th scope="row">(\d)</th><td>(\d)</td><td>([\d.]+%)</td>.*?width:([\d.]+%)', html)
    assert bars == [("0", "1", "16.7%", "25.0%"), ("1", "4", "66.7%", "100.0%"), ("2", "1", "16.7%", "25.0%")]


def test_runs_without_one_have_no_histogram(tmp_path: Path) -> None:
    plain = write_run(tmp_path / "plain", changes=["data.difficulty.rule=drop"])
    measure(tmp_path / "plain/difficulty/0-perceiver", 1)
    begun = write_run(tmp_path / "begun", changes=KEEPING)
    assert TITLE not in show(read_training_run(plain.folder), begun)


def test_several_runs_are_named(tmp_path: Path) -> None:
    for name in ("seed0", "seed1"):
        write_run(tmp_path / name, changes=KEEPING)
        measure(tmp_path / name / "difficulty/0-answerer", 2, 2)
    html = show(*(read_training_run(tmp_path / name) for name in ("seed0", "seed1")))
    assert "<b>seed1, 0-answerer (easy rows), 1-answerer (medium rows)</b> 2 rows: 2 easy, 0 medium, 0 hard" in html


def test_a_measurement_is_no_run_of_its_own(tmp_path: Path) -> None:
    measure(tmp_path / "sampled", 1)
    (tmp_path / "sampled" / SETTINGS_FILE).write_text('{"model": "nano", "rows": "needles"}')
    evidence = tmp_path / "sampled/evidence"
    evidence.mkdir()
    (evidence / SETTINGS_FILE).write_text('{"weights": "w", "perceiver": "p"}')
    assert not is_asked(tmp_path / "sampled") and is_evidence(evidence)
    assert list_run_folders(tmp_path) == []
    with pytest.raises(StorageError, match="sampled holds rows that were sorted by difficulty, and no run") as caught:
        find_run_folders([tmp_path / "sampled"])
    assert str(tmp_path / "sampled" / HISTOGRAM_FILE) in caught.value.hint
