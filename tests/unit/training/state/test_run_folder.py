"""Folders that are whole or not there, logs cut where a checkpoint stands, and recipes that must not differ."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from p2r.config import Recipe, parse_recipe
from p2r.errors import StorageError
from p2r.files import Log, read_log, replace_folder
from p2r.runs.store import RECIPE_FILE, SETTINGS_FILE
from p2r.runs.training import METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE
from p2r.runs.training_log import Step
from p2r.training.engines.local.distributed import World
from p2r.training.state.changes import list_recipe_changes
from p2r.training.state.run_folder import open_run


def test_a_folder_appears_when_all_is_written(tmp_path: Path) -> None:
    with replace_folder(tmp_path / "new") as draft:
        (draft / "part").write_text("whole")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "part").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with replace_folder(tmp_path / "folder") as draft:
            (draft / text).write_text(text)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_full_disk_leaves_the_old_folder_and_says_what_to_do(tmp_path: Path) -> None:
    with replace_folder(tmp_path / "folder") as draft:
        (draft / "part").write_text("old")
    with (
        pytest.raises(StorageError, match="no space left on device") as caught,
        replace_folder(tmp_path / "folder") as draft,
    ):
        (draft / "part").write_text("half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "folder" / "part").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert "`resume=True`" in caught.value.hint


def test_a_draft_that_a_kill_left_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "folder.tmp").mkdir()
    (tmp_path / "folder.tmp" / "rest").write_text("of a killed process")
    with replace_folder(tmp_path / "folder") as draft:
        (draft / "part").write_text("whole")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["part"]


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    with Log(tmp_path / "log.jsonl") as log:
        log.write({"step": 1})
        kept = log.sync()
        log.write({"step": 2})
    with Log(tmp_path / "log.jsonl", num_bytes=kept) as log:
        log.write({"step": 2, "again": True})
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 2, "again": True}]


def test_a_log_that_lost_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("{}\n")
    with pytest.raises(StorageError, match="has 3 bytes, and had 99"):
        Log(tmp_path / "log.jsonl", num_bytes=99)


def test_a_line_without_an_end_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st')
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1}]


def test_changes_are_listed_by_the_names_of_settings() -> None:
    before = {"seed": 0, "loss": {"kl_coef": 0.01, "clip_low": 0.2}, "checkpoint": {"every": 1}, "schedule": [1]}
    now = {"seed": 1, "loss": {"kl_coef": None, "clip_low": 0.2}, "checkpoint": {"every": 9}, "schedule": [2]}
    assert list_recipe_changes(before, now) == [
        "seed was 0, now 1",
        "loss.kl_coef was 0.01, now not set",
        "schedule was [1], now [2]",
    ]


def test_changes_within_a_phase_are_listed_by_their_names() -> None:
    before = {"schedule": [{"role": "perceiver", "lr": 1e-6}, {"role": "reasoner"}]}
    own = {"optimizer": {"lr": 1e-5, "micro_batch_groups": 1}}
    now = {"schedule": [{"role": "perceiver", "lr": 1e-5, "source": None}, {"role": "reasoner", **own}]}
    changes = list_recipe_changes(before, now)  # type: ignore[arg-type]
    assert changes[0] == "schedule.0.lr was 1e-06, now 1e-05"
    assert len(changes) == 2 and changes[1].startswith("schedule.1.optimizer was not set, now ")
    slower = {
        "schedule": [now["schedule"][0], {"role": "reasoner", "optimizer": {"lr": 1e-5, "micro_batch_groups": 4}}]
    }
    assert list_recipe_changes(now, slower) == []  # type: ignore[arg-type]


def test_settings_that_change_no_result_may_change() -> None:
    before = {"optimizer": {"micro_batch_groups": 4}, "partner": {"concurrency": 8}, "out": "a"}
    now = {"optimizer": {"micro_batch_groups": 1}, "partner": {"concurrency": 4}, "out": "b"}
    assert list_recipe_changes(before, now) == []


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    recipe = parse_recipe({"out": str(tmp_path / "run"), "data": {"num_rows": 64}})
    with (
        open_run(recipe, resume=False, world=World()),
        pytest.raises(StorageError, match="another process is writing"),
        open_run(recipe, resume=True, world=World()),
    ):
        pass


def test_a_run_that_never_took_a_step_may_begin_with_another_recipe(tmp_path: Path) -> None:
    for seed in (0, 1):
        recipe = parse_recipe({"out": str(tmp_path / "run"), "seed": seed, "data": {"num_rows": 64}})
        with open_run(recipe, resume=False, world=World()) as run:
            assert run.position is None
            if seed:
                run.write(METRICS_FILE, Step(phase="0-perceiver", step=1))
    with pytest.raises(StorageError, match="holds a run already"), open_run(recipe, resume=False, world=World()):
        pass


def test_a_run_of_an_older_version_is_resumed_with_the_defaults_of_newer_settings(tmp_path: Path) -> None:
    recipe = parse_recipe({"out": str(tmp_path), "data": {"num_rows": 64}})
    written = recipe.model_dump(mode="json")
    del written["rollout"]["max_rounds"], written["guards"]
    (tmp_path / RECIPE_FILE).write_text(json.dumps(written))
    (tmp_path / METRICS_FILE).write_text('{"phase": "0-perceiver", "step": 1}\n')
    other = parse_recipe({"out": str(tmp_path), "data": {"num_rows": 64}, "rollout": {"max_rounds": 2}})
    with pytest.raises(StorageError, match=r"max_rounds was 3, now 2"), open_run(other, resume=True, world=World()):
        pass
    with open_run(recipe, resume=True, world=World()) as run:
        assert run.position is None


@pytest.mark.parametrize(
    ("text", "why"), [("{", "is not JSON"), ('{"out": "x", "invented": 1}', "unknown setting invented")]
)
def test_a_run_whose_recipe_cannot_be_read_is_not_resumed(tmp_path: Path, text: str, why: str) -> None:
    recipe = parse_recipe({"out": str(tmp_path), "data": {"num_rows": 64}})
    (tmp_path / RECIPE_FILE).write_text(text)
    (tmp_path / METRICS_FILE).write_text('{"phase": "0-perceiver", "step": 1}\n')
    with pytest.raises(StorageError, match=why) as caught, open_run(recipe, resume=True, world=World()):
        pass
    assert "choose another `out`" in caught.value.hint


def write_steps(folder: Path, num: int, *, every: int, folders: tuple[str, ...] = ()) -> Recipe:
    """A run of `num` steps without checkpoints; returns its recipe."""
    recipe = parse_recipe({"out": str(folder), "data": {"num_rows": 64}, "checkpoint": {"every": every}})
    with open_run(recipe, resume=False, world=World()) as run:
        for step in range(num):
            run.write(METRICS_FILE, Step(phase="0-perceiver", step=step + 1))
    for name in folders:
        (folder / name).mkdir()
    return recipe


@pytest.mark.parametrize(
    ("num", "folders", "steps"), [(4, (), "4 steps"), (1, ("0-perceiver",), "1 step"), (0, ("1-reasoner",), "0 steps")]
)
def test_a_run_that_lost_its_checkpoints_is_not_started_again(
    tmp_path: Path, num: int, folders: tuple[str, ...], steps: str
) -> None:
    recipe = write_steps(tmp_path, num, every=3, folders=folders)
    with (
        pytest.raises(StorageError, match=f"has {steps} in metrics.jsonl and no checkpoint to resume from") as caught,
        open_run(recipe, resume=True, world=World()),
    ):
        pass
    assert caught.value.hint == "put the checkpoints back, or choose another `out`"
    assert len(read_log(tmp_path / METRICS_FILE)) == num


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    """Also one whose step was logged when the kill kept its checkpoint from being written."""
    write_steps(tmp_path, 3, every=3, folders=("best", "checkpoints"))
    more_often = parse_recipe({"out": str(tmp_path), "data": {"num_rows": 64}, "checkpoint": {"every": 1}})
    with open_run(more_often, resume=True, world=World()) as run:
        assert run.position is None
    assert read_log(tmp_path / METRICS_FILE) == []


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("file", [METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE])
def test_logs_without_their_recipe_are_not_overwritten(tmp_path: Path, file: str, resume: bool) -> None:
    (tmp_path / file).write_text("{}\n")
    recipe = parse_recipe({"out": str(tmp_path), "data": {"num_rows": 64}})
    with (
        pytest.raises(StorageError, match=r"has the logs of a run and no recipe\.json") as caught,
        open_run(recipe, resume=resume, world=World()),
    ):
        pass
    assert caught.value.hint == "put recipe.json back, or choose another `out`"
    assert (tmp_path / file).read_text() == "{}\n"


def test_the_password_of_a_partner_is_not_stored_and_may_change(tmp_path: Path) -> None:
    def open_with(password: str, *, resume: bool) -> str:
        partner = {"kind": "endpoint", "url": f"http://me:{password}@host/v1#m"}
        recipe = parse_recipe({"out": str(tmp_path), "data": {"num_rows": 64}, "partner": partner})
        with open_run(recipe, resume=resume, world=World()):
            return (tmp_path / RECIPE_FILE).read_text()

    first = open_with("secret", resume=False)
    assert "http://***@host/v1#m" in first and "secret" not in first
    (tmp_path / METRICS_FILE).write_text("{}\n")
    (tmp_path / RECIPE_FILE).write_text(first.replace("***", "me:secret"))  # as it was before passwords were masked
    assert open_with("another", resume=True) == first


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_another_command_wrote_is_refused(tmp_path: Path, resume: bool) -> None:
    (tmp_path / SETTINGS_FILE).write_text('{"rows": "needles"}')
    recipe = parse_recipe({"out": str(tmp_path), "data": {"num_rows": 4}})
    with (
        pytest.raises(StorageError, match="holds what another command of p2r wrote"),
        open_run(recipe, resume=resume, world=World()),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS_FILE]
