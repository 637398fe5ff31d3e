"""What each phase moved: states are found through runs, shares have their intervals, changes are paired."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch")

from p2r.config import parse_recipe
from p2r.errors import ConfigError, DataError, StorageError
from p2r.evaluation.scoring import ScoredRow, ScoredRun
from p2r.images.load import MemoryImage
from p2r.runs.evaluation import RunSettings, SampleFacts
from p2r.runs.training import read_training_run
from p2r.types import Completion, Sample, Trace, Verdict
from recipes.pebr_r1.table import (
    MEASURES,
    Measured,
    describe_phase,
    find_state,
    measure_replies,
    measure_runs,
    read_runs,
    show_change,
    tabulate_changes,
    tabulate_families,
    tabulate_states,
)

PHASES = {
    "warm-up": {"role": "answerer", "method": "sft", "data": {"source": "rows.jsonl"}},
    "perception": {"role": "answerer", "reward": {"terms": {"keywords": 0.5, "correct": 0.0}}},
    "reasoning": {"role": "answerer", "reward": {"terms": {"correct": 1.0}}},
    "perceiver": {"role": "perceiver"},
    "reasoner": {"role": "reasoner"},
}


def make_run(folder: Path, *names: str, source: Path | None = None) -> Path:
    schedule = [dict(PHASES[name]) for name in names]
    if source is not None:
        schedule[0]["source"] = str(source)
    recipe = parse_recipe({"out": str(folder), "data": {"source": "rows.jsonl"}, "schedule": schedule})
    folder.mkdir()
    (folder / "recipe.json").write_text(recipe.model_dump_json(), encoding="utf-8")
    for phase in recipe.phases():
        (folder / phase.name).mkdir()
    return folder


def test_runs_are_read_below_each_folder_and_none_is_an_error(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, "warm-up") for name in ("a", "b")]
    assert [run.folder for run in read_runs([tmp_path])] == folders
    assert [run.folder for run in read_runs(folders[::-1])] == folders[::-1]
    with pytest.raises(StorageError, match="missing holds no training run"):
        read_runs([folders[0], tmp_path / "missing"])


def test_phases_are_named_by_what_they_teach() -> None:
    recipe = parse_recipe({"out": "x", "data": {"source": "r"}, "schedule": list(PHASES.values())})
    assert [describe_phase(phase) for phase in recipe.phases()] == list(PHASES)


def test_a_state_begins_with_the_phases_of_the_run_whose_checkpoint_was_taken(tmp_path: Path) -> None:
    own = read_training_run(make_run(tmp_path / "own", "warm-up", "perception", "reasoning"))
    assert find_state(own, "1-answerer") == ("warm-up", "perception")
    warm = tmp_path / "own" / "0-sft"
    other = read_training_run(make_run(tmp_path / "other", "reasoning", "perception", source=warm))
    assert find_state(other, "1-answerer") == ("warm-up", "reasoning", "perception")
    elsewhere = read_training_run(make_run(tmp_path / "third", "perceiver", source=Path("some/checkpoint")))
    assert find_state(elsewhere, "0-perceiver") == ("perceiver",)


def make_sample(number: int, *key_words: str) -> Sample:
    return Sample(
        id=f"r{number}",
        image=MemoryImage(Image.new("RGB", (8, 8))),
        question="What?",
        target="plain",
        category="pair",
        key_words=key_words,
    )


def score(sample: Sample, reply: str | None, *, right: bool = True) -> ScoredRow:
    said = None if reply is None else Completion(text=reply, finish_reason="stop", model="m")
    trace = Trace(sample_id=sample.id, image="i", question="What?", reasoning=said)
    verdicts = {} if reply is None else {"robust": Verdict(correct=right, score=float(right), judge="test")}
    return ScoredRow(SampleFacts(sample_id=sample.id), trace, verdicts=verdicts)  # type: ignore[arg-type]


def make_scored(*rows: ScoredRow) -> ScoredRun:
    return ScoredRun(RunSettings(), {}, {}, None, (), None, rows=rows)  # type: ignore[arg-type]


def test_each_reply_is_measured_by_its_own_row() -> None:
    one, two = make_sample(1, "red star", "blue bar"), make_sample(2, "green ring")
    whole = "### Image Description:\nred star\n### Rationales:\nx\n### Step 1:\nx\n### The final answer is:\nplain"
    values = measure_replies(make_scored(score(two, "Green Ring", right=False), score(one, whole)), [one, two])
    assert values == {
        "key words": {"r1": 0.5, "r2": 1.0},
        "sections": {"r1": 1.0, "r2": 0.0},
        "right": {"r1": 1.0, "r2": 0.0},
    }


def test_a_missing_reply_is_not_a_zero() -> None:
    one, two = make_sample(1, "red star"), make_sample(2, "green ring")
    with pytest.raises(DataError, match="'r2' has no reply"):
        measure_replies(make_scored(score(one, "red star")), [one, two])
    with pytest.raises(DataError, match="'r2' has no reply"):
        measure_replies(make_scored(score(one, "red star"), score(two, None)), [one, two])


def measured(seed: int, *shares: float, boxes: bool = False) -> Measured:
    values = {f"r{number}": share for number, share in enumerate(shares)}
    return Measured(seed, boxes, dict.fromkeys(MEASURES, values))


def test_a_share_is_over_all_seeds_and_its_interval_counts_a_row_once() -> None:
    one_seed = {("warm-up",): [measured(0, *[1.0, 0.0] * 20)]}
    three = {("warm-up",): [measured(seed, *[1.0, 0.0] * 20) for seed in range(3)]}
    samples = [make_sample(number) for number in range(40)]
    row, triple = (tabulate_states(states, samples).rows[0] for states in (one_seed, three))
    assert row[:2] == ("warm-up", "0") and triple[:2] == ("warm-up", "0, 1, 2")
    assert row[2].startswith("50.0 [35.") and row[2].endswith("] (50.0)")
    assert triple[2].endswith("] (50.0, 50.0, 50.0)")
    low, high = (float(part.split("[")[1].split(",")[0]) for part in (triple[2], row[2]))
    assert low <= high + 0.1, "three seeds that agree know no more than one"
    assert tabulate_states(one_seed, samples).notes == ("Percent. Guessing is right in 2.8%.",)


def test_accuracy_with_own_boxes_has_no_share_of_key_words() -> None:
    states = {("perceiver", "own boxes"): [measured(0, 1.0, 1.0, boxes=True)]}
    row = tabulate_states(states, [make_sample(0), make_sample(1)]).rows[0]
    assert row[2:4] == ("", "") and row[4].startswith("100.0 [")


def test_key_words_are_told_by_family_over_all_seeds() -> None:
    samples = [replace(make_sample(number), category=["pair", "relation"][number == 1]) for number in range(3)]
    states = {
        ("warm-up",): [measured(0, 1.0, 0.5, 0.0), measured(1, 1.0, 0.0, 1.0)],
        ("warm-up", "own boxes"): [measured(0, 1.0, 1.0, 1.0, boxes=True)],
    }
    table = tabulate_families(states, samples)
    assert (table.columns, table.rows) == (("state", "pair", "relation"), (("warm-up", "75.0", "25.0"),))


def test_a_change_is_paired_by_row_and_seed() -> None:
    before, after = [measured(0, 0.0, 0.5), measured(1, 1.0, 0.5)], [measured(1, 1.0, 1.0), measured(0, 0.5, 0.5)]
    states = {("warm-up",): before, ("warm-up", "perception"): after}
    table = tabulate_changes(states)
    assert [row[0] for row in table.rows] == ["warm-up > perception"]
    assert table.rows[0][1].startswith("+25.0 [")
    one = {("warm-up",): before[:1], ("warm-up", "perception"): after}
    assert tabulate_changes(one).rows[0][1].startswith("+50.0 ["), "the warm-up is that of both seeds"
    boxes = {
        ("warm-up", "own boxes"): before[:1],
        ("warm-up", "perceiver", "own boxes"): [measured(7, 1.0, 1.0, boxes=True)],
    }
    assert [row[:3] for row in tabulate_changes(boxes).rows] == [("warm-up > perceiver > own boxes", "", "")]
    assert tabulate_changes(boxes).rows[0][3].startswith("+75.0 [")
    assert show_change([(before[0], before[0])], "right") == "+0.0 [+0.0, +0.0]"
    assert show_change([(measured(0, 1.0), measured(0, 0.0))], "right") == "-100.0 [-100.0, +100.0]"


def test_an_unfinished_phase_is_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "own", "warm-up", "perception")
    (folder / "1-answerer").rmdir()
    line = json.loads('{"phase": "1-answerer", "step": 1, "num_rows": 1, "lr": 0.1, "timing": {}}')
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (folder / "0-sft").rmdir()
    with pytest.raises(ConfigError, match="has not finished the phase"):
        measure_runs([read_training_run(folder)], [])  # type: ignore[arg-type]
