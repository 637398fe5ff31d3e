"""The studies that come with p2r are usable, and keep apart what they choose by and what they report."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.studies.jobs import list_askings, list_trainings
from p2r.studies.plan import tabulate_plan
from p2r.studies.study import Study, load_study

FOLDER = Path(__file__).parents[2] / "recipes" / "study"
STUDIES = sorted(FOLDER.glob("*.toml"))
MINIATURE = FOLDER / "paper_in_miniature.toml"


def move(study: Study, folder: Path) -> Study:
    return study.model_copy(update={"out": folder / "out"}).read_from(study.folder)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("is_quick", [False, True])
def test_a_study_can_be_planned(path: Path, is_quick: bool, tmp_path: Path) -> None:
    study = move(load_study(path), tmp_path)
    study = study.make_quick() if is_quick else study
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


def test_nothing_is_reported_on_the_seed_of_the_probe(tmp_path: Path) -> None:
    study = move(load_study(MINIATURE), tmp_path)
    probed = {job.recipe.probe.seed for job in list_trainings(study)}
    assert probed == {7000}
    assert {each.seed for each in study.evaluations.values()} == {21_000}


def test_controls_have_as_many_steps_and_rollouts_as_the_arm_that_they_control(tmp_path: Path) -> None:
    study = move(load_study(MINIATURE), tmp_path)

    def count(arm: str) -> tuple[int, int]:
        phases = study.recipe_of(arm, 0, tmp_path, None).phases()
        steps = sum(phase.steps or 0 for phase in phases)
        rollouts = [
            (phase.steps or 0) * phase.prompts_per_step * phase.rollout.group_size * len(phase.roles)
            for phase in phases
        ]
        return steps, sum(rollouts)

    assert count("single_stage") == count("joint") == count("alternating") == count("swapped") == count("pra_grpo")
