"""Questions that are watched or learned are not those that are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.errors import ConfigError
from p2r.studies.splits import list_shared, tabulate_splits
from tests.fakes.studies import make_study

LARGER = '\n[evaluations.larger]\nbenchmark = "needles:side_px=2048"\nnum = 5\nseed = 7000\n'


@pytest.mark.parametrize("more", ["", LARGER])
def test_a_study_that_reports_the_questions_of_a_probe_is_refused(tmp_path: Path, more: str) -> None:
    changes = [] if more else ["evaluations.fresh.seed=7000"]
    with pytest.raises(ConfigError, match=r"evaluations\.\w+\.seed is 7000, and the probe of arm both asks") as caught:
        make_study(tmp_path, more, changes=changes)
    assert "another seed" in caught.value.hint


def test_a_probe_of_another_seed_or_none_is_no_matter(tmp_path: Path) -> None:
    make_study(tmp_path, changes=["evaluations.fresh.seed=7000", 'arms.both.set=["probe.seed=7001"]'])
    make_study(tmp_path, changes=["evaluations.fresh.seed=7000", 'arms.both.set=["probe.source=folder:x"]'])


def test_seeds_of_training_are_not_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from 1000000 upward are for training"):
        make_study(tmp_path, changes=["evaluations.fresh.seed=1000000"])


def test_the_page_states_what_is_learned_watched_and_reported_by_which_seed(tmp_path: Path) -> None:
    study = make_study(tmp_path, LARGER.replace("7000", "9001"), changes=["chosen_on='By seed 5.'"])
    table = tabulate_splits(study)
    assert table.rows == (
        ("learned from", "needles", "1000000", "64", "both"),
        ("reported", "needles", "9000", "40", "fresh"),
        ("reported", "needles:side_px=2048", "9001", "5", "larger"),
        ("watched by probes", "needles", "7000", str(study.recipe_of("both", 0, tmp_path, None).probe.num), "both"),
    )
    assert table.notes == ("Arms are trained with the seeds 0, 1, 2.", "By seed 5.")


@pytest.mark.parametrize(("num_rows", "shown"), [("", "all"), (', "data.num_rows=4000"', "at most 4,000")])
def test_rows_of_a_file_are_not_more_than_it_has(tmp_path: Path, num_rows: str, shown: str) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        "out = 'x'\nmodel.source = 'nano'\ndata.source = 'rows.jsonl'\nschedule = [{role = 'perceiver', steps = 1}]\n"
    )
    study = make_study(tmp_path, changes=[f"arms.both.recipe='{recipe}'", f'arms.both.set=["data.seed=3"{num_rows}]'])
    assert ("learned from", "rows.jsonl", "-", shown, "both") in tabulate_splits(study).rows


def test_a_benchmark_that_is_watched_and_reported_is_told(tmp_path: Path) -> None:
    changes = ['evaluations.fresh.benchmark="folder:data/a"', 'arms.both.set=["probe.source=folder:data/a"]']
    study = make_study(tmp_path, changes=changes)
    assert list_shared(study) == ["The probe of arm both asks questions of fresh, which is reported."]
    learned = ['evaluations.fresh.benchmark="folder:data/a"', 'arms.both.set=["data.source=folder:data/a"]']
    assert list_shared(make_study(tmp_path, changes=learned)) == ["Arm both is trained on fresh, which is reported."]


def test_a_part_of_a_benchmark_is_reported_with_the_seed_that_chose_it(tmp_path: Path) -> None:
    few = ["evaluations.fresh.benchmark='folder:data/a'", "evaluations.fresh.seed=3"]
    assert ("reported", "folder:data/a", "3", "40", "fresh") in tabulate_splits(make_study(tmp_path, changes=few)).rows
    text = "\n[evaluations.whole]\nbenchmark = 'folder:data/a'\nseed = 3\n"
    assert ("reported", "folder:data/a", "-", "all", "whole") in tabulate_splits(make_study(tmp_path, text)).rows


def test_what_a_later_phase_learns_from_is_told_too(tmp_path: Path) -> None:
    later = 'schedule=[{role="perceiver", steps=1}, {role="reasoner", steps=1, data={source="folder:data/a"}}]'
    changes = ["evaluations.fresh.benchmark='folder:data/a'", f"arms.both.set=['{later}']"]
    table = tabulate_splits(make_study(tmp_path, changes=changes))
    assert [row[1] for row in table.rows if row[0] == "learned from"] == ["folder:data/a", "needles"]
    assert "Arm both is trained on fresh, which is reported." in table.notes
