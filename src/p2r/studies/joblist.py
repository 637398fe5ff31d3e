"""Which jobs a study has, in which order, and where each leaves what it makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from p2r.errors import mask_secrets
from p2r.models.known import expand_name
from p2r.modes import MODES, Mode
from p2r.studies.cells import StudyCell
from p2r.studies.consistency import list_needed_arms
from p2r.studies.jobs import AskJob, FilesJob, Job, TrainJob
from p2r.studies.study import ARMS_FOLDER, FILES_FOLDER, Study

ANSWERS_FOLDER = "answers"
BESIDE = "+"
"""Stands between the arm that perceives and the one that answers, in names."""


def list_jobs(study: Study) -> list[Job]:
    """Every job, each after those that it needs: rows first, then seed by seed each arm with what it can be asked.

    So a study that was stopped has answers for most claims, and weights need not be kept for long.
    """
    trainings = list_trainings(study)
    seeds = list(dict.fromkeys([*study.seeds, *(job.seed for job in trainings)]))
    trainings.sort(key=lambda job: seeds.index(job.seed))
    places = {job.name: place for place, job in enumerate(trainings)}
    jobs: list[TrainJob | AskJob] = [*trainings, *list_askings(study)]
    jobs.sort(key=lambda job: places.get(job.name, max((places.get(name, -1) for name in job.needs), default=-1)))
    needed = {name for job in trainings for name in job.files}
    return [*(job for job in list_files(study) if job.name in needed), *jobs]


def list_files(study: Study) -> list[FilesJob]:
    """The rows that scripts make."""
    return [
        FilesJob(f"{FILES_FOLDER}/{name}", name, each.module, each.args, study.find_files(name), each.last)
        for name, each in study.files.items()
    ]


def list_trainings(study: Study) -> list[TrainJob]:
    """The arms that something needs, with their seeds; an arm that others start from comes first."""
    trained = [name for name in list_needed_arms(study) if study.arms[name].recipe is not None]
    return [_make_training(study, name, seed) for name in trained for seed in study.seeds_of(name)]


def group_trainings(study: Study) -> dict[str, list[TrainJob]]:
    """The trainings of each arm that something needs, by seed."""
    by_arm: dict[str, list[TrainJob]] = {}
    for job in list_trainings(study):
        by_arm.setdefault(job.arm, []).append(job)
    return by_arm


def list_askings(study: Study) -> list[AskJob]:
    """List who is asked what: one job for each evaluation, arm, perceiver and seed, with all modes."""
    modes: dict[tuple[str, str, str | None], set[Mode]] = {}
    for cell in study.list_cells():
        modes.setdefault(who_is_asked(cell), set()).add(cell.mode)
    return [
        make_asking(study, *key, seed, tuple(mode for mode in MODES if mode in own))
        for key, own in modes.items()
        for seed in list_seeds(study, key[1], key[2])
    ]


def who_is_asked(cell: StudyCell) -> tuple[str, str, str | None]:
    """Return what cells of one job have in common: the evaluation, the arm, and the perceiver if it is another."""
    return cell.evaluation, cell.arm, cell.perceiver if cell.perceiver != cell.arm else None


def list_seeds(study: Study, arm: str, perceiver: str | None) -> Sequence[int | None]:
    """The seeds with which an arm is asked; [None] where nothing is trained. Two trained arms go together by seed."""
    own = study.seeds_of(arm)
    others = study.seeds_of(perceiver) if perceiver is not None else ()
    if own and others:
        return [seed for seed in own if seed in others]
    return own or others or [None]


def make_asking(
    study: Study, evaluation: str, arm: str, perceiver: str | None, seed: int | None, modes: tuple[Mode, ...]
) -> AskJob:
    """The job that asks an arm with a seed."""
    who = arm if perceiver is None else perceiver + BESIDE + arm
    part = "" if seed is None else f"seed-{seed}"
    needs = [find_training(study, name, seed) for name in (arm, perceiver) if name is not None]
    asked = study.evaluations[evaluation]
    settings: dict[str, JsonValue] = {
        "limit": asked.num,
        "seed": asked.seed,
        "max_pixels": asked.max_pixels,
        "prompts": asked.prompts,
    }
    trained: dict[str, str] = {}
    for setting, name in (("model", arm), ("perceiver_model", perceiver)):
        if name is not None and study.seeds_of(name):
            trained[setting] = Path(find_checkpoint(study, name, seed)).relative_to(study.out).as_posix()
        elif name is not None:
            settings[setting] = mask_secrets(expand_name(find_checkpoint(study, name, seed)))
    return AskJob(
        name="/".join(filter(None, (evaluation, who, part))),
        evaluation=evaluation,
        arm=arm,
        perceiver=perceiver,
        seed=seed,
        modes=modes,
        folder=study.out / ANSWERS_FOLDER / evaluation / who / part,
        model=find_checkpoint(study, arm, seed),
        perceiver_model=None if perceiver is None else find_checkpoint(study, perceiver, seed),
        questions=asked,
        needs=tuple(dict.fromkeys(name for name in needs if name is not None)),
        settings=settings,
        trained=trained,
    )


def find_checkpoint(study: Study, arm: str, seed: int | None) -> str:
    """The model that an arm is with a seed, as `load_model` takes it."""
    found = study.arms[arm]
    if found.checkpoint is not None:
        return found.checkpoint
    assert seed is not None, f"the arm {arm!r} is trained, and was asked without a seed"
    if found.of is not None:
        return str(find_folder(study, found.of, seed) / str(found.phase))
    return str(find_folder(study, arm, seed) / _make_training(study, arm, seed).recipe.phases()[-1].name)


def find_root(study: Study, arm: str) -> str:
    """The model that an arm begins with before anything is trained, as `load_model` takes it."""
    found = study.arms[arm]
    if (other := found.of or found.start) is not None:
        return find_root(study, other)
    if found.checkpoint is not None:
        return found.checkpoint
    return _make_training(study, arm, study.seeds_of(arm)[0]).recipe.model.source


def find_folder(study: Study, arm: str, seed: int) -> Path:
    """The folder of an arm's training run."""
    return study.out / ARMS_FOLDER / arm / f"seed-{seed}"


def find_training(study: Study, arm: str, seed: int | None) -> str | None:
    """The name of the job that trains an arm; None where nothing is trained."""
    if not study.seeds_of(arm):
        return None
    return f"{study.arms[arm].of or arm}/seed-{seed}"


def _make_training(study: Study, name: str, seed: int) -> TrainJob:
    arm, folder = study.arms[name], find_folder(study, name, seed)
    source = None if arm.start is None else find_checkpoint(study, arm.start, seed)
    return TrainJob(
        name=f"{name}/seed-{seed}",
        arm=name,
        seed=seed,
        folder=folder,
        recipe=study.recipe_of(name, seed, folder, source),
        recipe_file=study.find_recipe(name),
        changes=tuple(study.list_overrides(name, seed, folder, source)),
        num_processes=arm.num_processes or study.num_processes,
        start=None if arm.start is None else find_training(study, arm.start, seed),
        files=tuple(dict.fromkeys(f"{FILES_FOLDER}/{each}" for each in study.list_files(name))),
    )
