"""The studies that come with p2r are usable, and keep apart what they choose by and what they report."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2r.studies.joblist import list_askings, list_files, list_trainings
from p2r.studies.plan import tabulate_plan
from p2r.studies.quick import make_quick
from p2r.studies.study import Study, load_study
from recipes.pebr_r1 import captions

FOLDER = Path(__file__).parents[2] / "recipes" / "study"
STUDIES = sorted(FOLDER.glob("*.toml"))
MINIATURE = FOLDER / "paper_in_miniature.toml"


def move(study: Study, folder: Path) -> Study:
    return study.model_copy(update={"out": folder / "out"}).read_from(study.folder)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("is_quick", [False, True])
def test_a_study_can_be_planned(path: Path, is_quick: bool, tmp_path: Path) -> None:
    study = move(load_study(path), tmp_path)
    study = make_quick(study) if is_quick else study
    arms, questions = tabulate_plan(study)
    trained = {job.arm for job in list_trainings(study)}
    assert {row[0] for row in arms.rows[:-1]} == trained
    assert len(questions.rows) == len(list_askings(study))
    if is_quick:
        assert all(
            phase.steps == study.quick.steps or job.recipe.control != "none"
            for job in list_trainings(study)
            for phase in job.recipe.phases()
        )


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_trained_arm_is_asked_and_has_several_seeds(path: Path, tmp_path: Path) -> None:
    study = move(load_study(path), tmp_path)
    asked = {name for job in list_askings(study) for name in (job.arm, job.perceiver)}
    for name, arm in study.arms.items():
        assert name in asked, f"{name} is trained for nothing"
        assert arm.checkpoint is not None or len(study.seeds_of(name)) >= 3


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_both_objections_of_the_review_are_answered(path: Path) -> None:
    study = load_study(path)
    assert len(study.objections) >= 2
    assert any(claim.source == "review, major 1" for claim in study.claims)


def test_nothing_is_reported_on_a_seed_that_something_was_chosen_by(tmp_path: Path) -> None:
    study = move(load_study(MINIATURE), tmp_path)
    probed = {job.recipe.probe.seed for job in list_trainings(study) if job.recipe.probe.source is not None}
    assert probed == {7000}
    assert min(each.seed for each in study.evaluations.values()) >= 21_000
    assert min(seed for name in study.arms for seed in study.seeds_of(name)) >= 10
    assert "below 10" in study.chosen_on and "below 21000" in study.chosen_on


def test_controls_have_as_many_steps_and_rollouts_as_the_arm_that_they_control(tmp_path: Path) -> None:
    study = move(load_study(MINIATURE), tmp_path)

    def count(name: str) -> tuple[int, int]:
        arm = study.arms[name]
        phases = study.recipe_of(arm.of or name, 0, tmp_path, None).phases()
        last = [phase.name for phase in phases].index(arm.phase) if arm.phase else len(phases) - 1
        steps = sum(phase.steps or 0 for phase in phases[: last + 1])
        rollouts = [
            (phase.steps or 0) * phase.prompts_per_step * phase.rollout.group_size * len(phase.roles)
            for phase in phases[: last + 1]
        ]
        return steps, sum(rollouts)

    assert count("single_stage") == count("joint") == count("alternating") == count("swapped") == count("pra_grpo")
    assert count("resting_kl") == count("adapters") == count("one_adapter") == count("pra_grpo")
    assert count("text_only") == count("three_iterations")
    assert count("two_text_only") == count("two_iterations")
    assert count("dapo_perceiver") == count("perceiver")

    def count_rewarded(name: str) -> int:
        phases = study.recipe_of(name, 0, tmp_path, None).rewarded_phases
        return sum((phase.steps or 0) * phase.prompts_per_step * phase.rollout.group_size for phase in phases)

    assert count_rewarded("pebr_r1") == count_rewarded("pebr_swapped") == count_rewarded("pebr_pra_grpo")


def test_the_scripts_that_make_rows_take_their_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = move(load_study(MINIATURE), tmp_path)
    written: list[str] = []

    def note(_: Path, name: str, __: object) -> str:
        written.append(f"{name}.jsonl")
        return name

    def skip(*_: object, **__: object) -> Iterator[str]:
        return iter(())

    monkeypatch.setattr(captions, "write_file", note)
    monkeypatch.setattr(captions.multiprocessing, "Pool", lambda: nullcontext(SimpleNamespace(imap=skip)))
    for version in (study, make_quick(study)):
        [job] = list_files(version)
        assert job.module == captions.__name__
        monkeypatch.setattr(sys, "argv", ["captions", *job.command])
        captions.main()
        assert written.pop() == job.last


def find_cells(study: Study, evaluation: str) -> set[tuple[str, str | None, str]]:
    return {(cell.arm, cell.perceiver, cell.mode) for cell in study.list_cells() if cell.evaluation == evaluation}


def test_the_miniature_asks_all_that_the_paper_and_its_review_ask() -> None:
    study = load_study(MINIATURE)
    asked = find_cells(study, "needles")
    for arm in ("start", "pra_grpo"):  # Table 5, Figures 4 and 12
        for mode in ("direct", "thinking", "none", "random", "p2r", "oracle"):
            assert (arm, None, mode) in asked, (arm, mode)
    for arm in ("perceiver", "reasoner", "swapped"):  # Figure 5
        assert (arm, None, "p2r") in asked
    for arm, perceiver in (("start", "perceiver"), ("reasoner", "start"), ("reasoner", "perceiver")):  # Table 3
        assert (arm, perceiver, "p2r") in asked
    sizes = {"1024": "needles", "2048": "needles_2048", "4096": "needles_4096"}  # Tables 1 and 2
    for size, name in sizes.items():
        assert size == "1024" or f"side_px={size}" in study.evaluations[name].benchmark
        assert {("start", None, "p2r"), ("pra_grpo", None, "p2r")} <= find_cells(study, name)
    families = {cell.category for cell in study.list_cells()}
    assert families >= {"attribute", "relation", "pair", "text", "absent"}
    assert {
        ("resting_kl", None, "p2r"),
        ("adapters", "adapters_perceiver", "p2r"),
        ("one_adapter", None, "p2r"),
    } <= asked
    assert find_cells(study, "where")  # Table 4
    assert {mode for *_, mode in find_cells(study, "speed")} >= {"direct", "p2r", "tools", "zoom"}  # Figure 11
    slopes = [claim for claim in study.claims if claim.slope]  # Figure 8
    assert {len(claim.plus) for claim in slopes} == {3}
    assert any(claim.minus for claim in slopes)
    assert study.gains and {"place", "spelling"} <= {claim.measure for claim in study.claims}
    assert {("single_stage", None, "p2r"), ("single_stage", None, "none"), ("pra_grpo", None, "none")} <= asked


def test_the_headline_has_five_seeds(tmp_path: Path) -> None:
    study = load_study(MINIATURE)
    assert len(study.seeds_of("pra_grpo")) == 5


def test_probes_of_every_trained_arm_are_drawn_by_every_metric_of_the_papers_figures() -> None:
    study = load_study(MINIATURE)
    drawn: dict[str, set[str]] = {}
    for chart in study.curves:
        drawn.setdefault(chart.metric, set()).update(chart.arms)
    assert set(drawn) >= {"hit_rate", "mean_iou", "mean_boxes", "mean_box_area", "accuracy_p2r"}
    on_needles = {name for name, arm in study.arms.items() if arm.recipe == "nano" and not name.startswith("pebr")}
    for metric, arms in drawn.items():
        assert arms == on_needles, metric
