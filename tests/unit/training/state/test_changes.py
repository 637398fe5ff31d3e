"""Settings that may differ when a run is resumed, and runs that become longer."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from p2r.config import Recipe, load_recipe, parse_recipe
from p2r.errors import StorageError
from p2r.runs.store import RECIPE_FILE
from p2r.runs.training import CHANGES_FILE, METRICS_FILE
from p2r.runs.training_log import RecipeChange, Step, read_rows
from p2r.training.engines.local.distributed import World
from p2r.training.state.changes import FREE_SETTINGS, check_lengths, list_recipe_changes, record_changes
from p2r.training.state.checkpoint import STATE_FILE, Position
from p2r.training.state.run_folder import open_run

ROOT = Path(__file__).parents[4]


def make(folder: Path, *steps: int | None, **more: object) -> Recipe:
    roles = ("perceiver", "reasoner", "perceiver")
    schedule = [{"role": role, "steps": count} for role, count in zip(roles, steps, strict=False)]
    return parse_recipe({"out": str(folder), "data": {"num_rows": 64}, "schedule": schedule, **more})


def at(phase: int, step: int) -> Position:
    return Position(
        phase=phase, step=step, run_step=9, row_position=0, model="m", num_processes=1, log_bytes={}, best=0.5
    )


def compare(before: Recipe, now: Recipe) -> list[str]:
    return list_recipe_changes(*(recipe.model_dump(mode="json") for recipe in (before, now)))


def test_lengths_are_no_change_of_the_recipe(tmp_path: Path) -> None:
    before = make(tmp_path, 3, 2)
    for now in (make(tmp_path, 5, 2), make(tmp_path, 3, 2, iterations=2), make(tmp_path, 3, 2, 4), make(tmp_path, 3)):
        assert compare(before, now) == []
    assert compare(before, make(tmp_path, 3, 2, seed=1)) == ["seed was 0, now 1"]


def test_what_phases_have_from_the_recipe_is_said_once(tmp_path: Path) -> None:
    first = {"role": "perceiver", "steps": 3, "data": {"seed": 1}}
    before = make(tmp_path, schedule=[first, {"role": "reasoner", "steps": 2, "data": {"seed": 4}}])
    second = {"role": "reasoner", "steps": 2, "data": {"seed": 5}}
    now = make(tmp_path, schedule=[first, second], data={"num_rows": 32})
    assert sorted(compare(before, now)) == ["data.num_rows was 64, now 32", "schedule.1.data.seed was 4, now 5"]
    record_changes(tmp_path, before, now, at(0, 1))
    (row,) = read_rows(tmp_path / CHANGES_FILE, RecipeChange)
    assert row.now == {"schedule.1.data.seed": 5, "data.num_rows": 32}


@pytest.mark.parametrize(
    ("tables", "is_free"),
    [
        ({"probe": {"source": "needles", "num": 3}, "guards": {"patience": 5}}, True),
        ({"data": {"num_rows": 64, "skip_bad": 5}}, True),
        ({"data": {"num_rows": 64, "check_images": "header"}}, False),
        ({"optimizer": {"kind": "offload"}}, True),
        ({"optimizer": {"kind": "adamw8bit"}}, False),
        ({"partner": {"max_new_tokens": 5}}, False),
        ({"partner": {"memo": False}}, False),
    ],
)
def test_what_changes_no_result_may_differ(tmp_path: Path, tables: dict[str, object], is_free: bool) -> None:
    before = make(tmp_path, 3, 2)
    now = parse_recipe({**before.model_dump(mode="json", include={"out", "data", "schedule"}), **tables})
    assert (compare(before, now) == []) is is_free


def test_a_server_may_be_reached_in_another_way(tmp_path: Path) -> None:
    one, other = (
        make(tmp_path, 3, partner={"kind": "endpoint", "url": url, "transport": transport})
        for url, transport in (("http://a:1/v1", "png"), ("http://b:2/v1", "webp"))
    )
    assert compare(one, other) == []


def test_a_judge_may_be_reached_in_another_way_and_is_the_same_model(tmp_path: Path) -> None:
    def judged_by(**judge: object) -> Recipe:
        return make(tmp_path, 3, reward={"judge": {"url": "http://a:1/v1", "model": "m", **judge}})

    assert compare(judged_by(), judged_by(url="http://b:2/v1", concurrency=1, timeout_s=9)) == []
    assert compare(judged_by(), judged_by(model="n")) == ['reward.judge.model was "m", now "n"']
    assert compare(judged_by(), make(tmp_path, 3)) != []


@pytest.mark.parametrize(
    ("before", "now", "done", "said"),
    [
        ((3, 2), (5, 2), at(0, 2), "phase 0-perceiver has 5 steps now, in place of 3"),
        ((3, 2), (5, 2), at(0, 3), "phase 0-perceiver has 5 steps now, in place of 3"),
        ((3, 2), (2, 2), at(0, 2), "phase 0-perceiver has 2 steps now, in place of 3"),
        ((3, 2), (3, 9), at(0, 3), None),
        ((3, 2), (3, None), at(0, 3), None),
        ((3, 2), (3, 9), at(1, 1), "phase 1-reasoner has 9 steps now, in place of 2"),
        ((3, 2), (3, 2, 4), at(1, 2), None),
        ((3, 2), (1, 2), None, None),
    ],
)
def test_the_last_phase_that_has_begun_may_become_longer(
    tmp_path: Path, before: tuple[int, ...], now: tuple[int, ...], done: Position | None, said: str | None
) -> None:
    assert check_lengths(make(tmp_path, *before), make(tmp_path, *now), done) == ([said] if said else [])


@pytest.mark.parametrize(
    ("before", "now", "done", "said"),
    [
        ((3, 2), (5, 2), at(1, 1), "phase 0-perceiver has ended and 1-reasoner has begun from it: it had 3 steps, and"),
        ((3, 2), (1, 2), at(0, 2), "phase 0-perceiver has taken 2 steps of 3 steps, and cannot have 1 step now"),
        ((3, 2), (None, 2), at(0, 2), "cannot have 1 pass now"),
        ((3, 2), (3,), at(1, 1), "phase 1-reasoner has begun, and is not among the phases that are asked for now"),
    ],
)
def test_a_length_that_cannot_be_is_refused_in_one_sentence(
    tmp_path: Path, before: tuple[int, ...], now: tuple[int, ...], done: Position, said: str
) -> None:
    with pytest.raises(StorageError, match=said) as caught:
        check_lengths(make(tmp_path, *before), make(tmp_path, *now), done)
    assert "choose another `out`" in caught.value.hint


def test_a_phase_whose_evidence_was_looked_up_has_begun(tmp_path: Path) -> None:
    (tmp_path / "evidence" / "1-reasoner").mkdir(parents=True)
    with pytest.raises(StorageError, match="1-reasoner has begun from it"):
        check_lengths(make(tmp_path, 3, 2), make(tmp_path, 5, 2), at(0, 3))


def test_a_phase_of_another_iteration_cannot_take_the_place_of_one_that_has_begun(tmp_path: Path) -> None:
    before, now = make(tmp_path, 3, 2, iterations=2), make(tmp_path, 3, 2, 4, iterations=2)
    assert check_lengths(before, now, at(2, 1)) == ["phase 2-perceiver has 4 steps now, in place of 3"]
    with pytest.raises(StorageError, match="phase 3-reasoner has begun, and would be 3-perceiver now"):
        check_lengths(before, make(tmp_path, 3, 2, 3, iterations=2), at(3, 1))


def test_it_is_said_when_rates_change_with_the_length(tmp_path: Path) -> None:
    before, now = (make(tmp_path, steps, optimizer={"scheduler": "cosine"}) for steps in (3, 5))
    assert check_lengths(before, now, at(0, 2))[0].endswith("; its cosine rates are those of 5 from here on")


def write_run(recipe: Recipe, done: Position, *finished: str) -> None:
    with open_run(recipe, resume=False, world=World()) as run:
        run.write(METRICS_FILE, Step(phase="0-perceiver", step=1))
    state = recipe.out / "checkpoints" / f"{done.phase:03d}-{done.step:06d}" / STATE_FILE
    state.parent.mkdir(parents=True)
    num_bytes = (recipe.out / METRICS_FILE).stat().st_size
    state.write_text(done.model_copy(update={"log_bytes": {METRICS_FILE: num_bytes}}).model_dump_json())
    for name in finished:
        (recipe.out / name).mkdir()


def test_a_phase_that_has_ended_goes_on_when_it_is_longer(tmp_path: Path) -> None:
    before, now = make(tmp_path, 3, 2), make(tmp_path, 5, 2)
    write_run(before, at(0, 3), "0-perceiver")
    with open_run(before, resume=True, world=World()) as run:
        assert run.has_finished(before.phases()[0]) and not run.remarks
    with open_run(now, resume=True, world=World()) as run:
        assert not run.has_finished(now.phases()[0]) and len(run.remarks) == 1
    assert load_recipe(tmp_path / RECIPE_FILE) == now


def test_the_best_probe_is_that_of_the_same_questions(tmp_path: Path) -> None:
    before = make(tmp_path, 3, probe={"source": "needles", "num": 3})
    write_run(before, at(0, 2))
    more_often = make(tmp_path, 3, probe={"source": "needles", "num": 3, "every": 1})
    with open_run(more_often, resume=True, world=World()) as run:
        assert run.best == 0.5 and not run.remarks
    others = make(tmp_path, 3, probe={"source": "needles", "num": 9})
    with open_run(others, resume=True, world=World()) as run:
        assert run.best is None and "best/ is chosen again" in run.remarks[0]


def test_what_differs_is_recorded_with_the_step_after_which_it_holds(tmp_path: Path) -> None:
    first, second = make(tmp_path, 3, 2), make(tmp_path, 5, 2, guards={"patience": 5}, partner={"concurrency": 3})
    write_run(first, at(0, 2))
    for recipe in (first, second, second):
        with open_run(recipe, resume=True, world=World()):
            pass
    [change] = read_rows(tmp_path / CHANGES_FILE, RecipeChange)
    assert (change.phase, change.step) == ("0-perceiver", 2)
    assert change.was == {
        "schedule.0.steps": 3,
        "guards.patience": first.guards.patience,
        "partner.concurrency": first.partner.concurrency,
    }
    assert change.now == {"schedule.0.steps": 5, "guards.patience": 5, "partner.concurrency": 3}
    third = make(tmp_path, 5, 2, guards={"patience": 7}, partner={"concurrency": 3})
    with open_run(third, resume=True, world=World()):
        pass
    assert [each.now.get("guards.patience") for each in read_rows(tmp_path / CHANGES_FILE, RecipeChange)] == [5, 7]


def test_a_change_is_recorded_once_although_a_kill_came_before_the_recipe_was_written(tmp_path: Path) -> None:
    before, now = make(tmp_path, 3), make(tmp_path, 3, guards={"patience": 5})
    for _ in range(2):
        record_changes(tmp_path, before, now, at(0, 2))
    assert len(read_rows(tmp_path / CHANGES_FILE, RecipeChange)) == 1


def test_a_run_that_begins_again_has_no_changes(tmp_path: Path) -> None:
    before, now = make(tmp_path, 3), make(tmp_path, 3, guards={"patience": 5})
    record_changes(tmp_path, before, now, at(0, 2))
    record_changes(tmp_path, now, before, None)
    assert not (tmp_path / CHANGES_FILE).exists()


def test_a_moved_folder_is_no_change(tmp_path: Path) -> None:
    record_changes(tmp_path, make(tmp_path / "a", 3), make(tmp_path / "b", 3), at(0, 2))
    assert not (tmp_path / CHANGES_FILE).exists()


def test_the_guide_has_a_row_for_each_free_setting() -> None:
    guide = (ROOT / "docs" / "guides" / "train.md").read_text(encoding="utf-8")
    for name in (*FREE_SETTINGS, "optimizer.kind"):
        assert f"`{name}`" in guide, name
