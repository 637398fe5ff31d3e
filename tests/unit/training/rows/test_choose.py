"""Pre-rollouts of a phase: what they depend on, and how they end in several processes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("torch")

from torch import nn

from p2r.config import Phase, Recipe
from p2r.errors import ConfigError, DataError, StorageError, TooManyErrors, TrainingError
from p2r.runs.difficulty import DIFFICULTY_FILE, RowDifficulty
from p2r.training.engines.local.distributed import World
from p2r.training.rows import choose
from p2r.training.rows.choose import _hash_recipe  # pyright: ignore[reportPrivateUsage]
from p2r.training.stopping import FAILED, FINE, STOPPED, StopRequest, StopRequested
from p2r.types import Sample
from tests.fakes.training import make_phase, make_recipe, make_sample

JUDGE = 'reward.judge={{url="http://{}/v1", model="{}", timeout_s={}}}'


@pytest.mark.parametrize(
    ("before", "now", "is_same"),
    [
        ([], ["data.skip_bad=3"], True),
        ([], ["rollout.prompts_at_once=3"], True),
        ([JUDGE.format("a", "m", 60)], [JUDGE.format("b", "m", 9)], True),
        ([JUDGE.format("a", "m", 60)], [JUDGE.format("a", "n", 60)], False),
        ([], ['reward.judge="partner"'], False),
        ([], ["rollout.temperature=0.5"], False),
        (["data.difficulty.num_rollouts=4"], ["data.difficulty.keep=easy"], True),  # as before there was `keep`
        ([], ["data.difficulty.num_rollouts=8"], False),
    ],
)
def test_pre_rollouts_are_kept_by_what_they_depend_on(before: list[str], now: list[str], is_same: bool) -> None:
    one, other = (_hash_recipe(recipe, recipe.phases()[0]) for recipe in map(make_recipe, (before, now)))
    assert (one == other) is is_same


@dataclass(frozen=True)
class Pair(World):
    """Two processes: how the other one's pre-rollouts end, and then, if they do, what they find."""

    size: int = 2
    others: tuple[object, ...] = ()

    def gather(self, own: Sequence[Any]) -> list[Any]:
        fate, *measured = self.others
        return [*own, fate] if isinstance(own[0], int) else [*own, *measured]


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (None, FINE, None),
        (TooManyErrors("too many", hint="mend them"), FINE, TooManyErrors),
        (None, FAILED, TrainingError),
        (None, STOPPED, StopRequested),
    ],
)
async def test_processes_end_their_pre_rollouts_together(
    own: Exception | None, other: int, expected: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in which too much failed says so, before the others send what they found."""
    rows = [RowDifficulty(id=name, num_judged=2, mean=0.5, variance=0.25) for name in "ab"]

    async def measure(*_: object, **__: object) -> list[RowDifficulty]:
        if own is not None:
            raise own
        return rows[:1]

    monkeypatch.setattr(choose, "measure_difficulty", measure)
    monkeypatch.setattr(choose, "make_roller", lambda *_, **__: None)
    monkeypatch.setattr(choose, "fingerprint_weights", lambda _: "w")
    recipe = make_recipe(["data.difficulty.rule=drop"])
    state = make_state(make_phase(recipe=recipe), Pair(others=(other, rows[1])))
    run: Any = SimpleNamespace(process_folder=lambda *_: Path())
    choosing = choose.choose_phase_rows(
        recipe, state, [make_sample("a"), make_sample("b")], run, print, StopRequest(print)
    )
    if expected is None:
        assert len((await choosing).rows) == 2
        return
    with pytest.raises(expected):
        await choosing


def make_two_phases(changes: Sequence[str] = ()) -> Recipe:
    data = "{difficulty={keep='%s', num_rollouts=4}}"
    schedule = ", ".join(f'{{role="answerer", data={data % kind}}}' for kind in ("easy", "medium"))
    return make_recipe([f"schedule=[{schedule}]", "rollout.prompts_per_step=1", *changes])


KINDS = {"a": (4, 0), "b": (2, 2), "c": (0, 4), "d": (1, 3)}


def measure_row(name: str) -> RowDifficulty:
    right, wrong = KINDS[name]
    return RowDifficulty(
        id=name, num_judged=4, mean=None, variance=None, num_rollouts=4, num_right=right, num_wrong=wrong
    )


def make_state(phase: Phase, world: World | None = None) -> Any:  # noqa: ANN401
    policy = SimpleNamespace(model=nn.Module(), checkpoint=SimpleNamespace(folder=Path()))
    ready_to_sample = contextlib.nullcontext
    return SimpleNamespace(phase=phase, world=world or World(), policy=policy, ready_to_sample=ready_to_sample)


def make_run(folder: Path) -> Any:  # noqa: ANN401
    def process_folder(kind: str, phase: Phase, world: World) -> Path:
        return folder / kind / (phase.name if world.size == 1 else f"{phase.name}.{world.rank}")

    return SimpleNamespace(folder=folder, process_folder=process_folder)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured: the names of the rows, as often as they are, and the rewards that phases are measured by."""
    asked: list[str] = []

    async def measure(
        _: object, rows: Sequence[Sample], folder: Path, *__: object, **___: object
    ) -> list[RowDifficulty]:
        asked.extend(row.id for row in rows)
        found = [measure_row(row.id) for row in rows]
        folder.mkdir(parents=True)
        (folder / DIFFICULTY_FILE).write_text("".join(row.model_dump_json() + "\n" for row in found))
        return found

    def note(*_: object, phase: Phase, **__: object) -> None:
        asked.append(f"{phase.name} by {dict(phase.reward.active_terms)}")

    monkeypatch.setattr(choose, "measure_difficulty", measure)
    monkeypatch.setattr(choose, "make_roller", note)
    monkeypatch.setattr(choose, "fingerprint_weights", lambda _: "w")
    return asked


ROWS = [make_sample(name) for name in KINDS]


async def test_phases_of_a_run_share_one_measurement_by_right_answers(tmp_path: Path, measured: list[str]) -> None:
    recipe = make_two_phases(["schedule.0.reward.terms={format=1.0}"])
    said: list[str] = []
    run, stop = make_run(tmp_path), StopRequest(print)
    kept: list[list[str]] = []
    for phase in recipe.phases():
        chosen = await choose.choose_phase_rows(recipe, make_state(phase), ROWS, run, said.append, stop)
        kept.append([row.id for row in chosen.rows])
    assert kept == [["a"], ["b", "d"]]
    assert measured == ["0-answerer by {'correct': 1.0}", *"abcd"]
    assert said == [
        "phase 0-answerer: 1 easy, 2 medium, 1 hard; trains on the easy ones",
        "phase 1-answerer: rows as phase 0-answerer measured them: 1 easy, 2 medium, 1 hard; trains on the medium ones",
    ]
    folder = tmp_path / "difficulty"
    assert [path.name for path in folder.iterdir()] == ["0-answerer"]
    assert len((folder / "0-answerer/medium.jsonl").read_text().splitlines()) == 2
    assert (folder / "0-answerer/histogram.txt").read_text().startswith("right of 4  rows")


@pytest.mark.parametrize("left", [None, ["a", "b", "c"]])
async def test_a_measurement_that_is_gone_is_not_made_again_with_other_weights(
    tmp_path: Path, measured: list[str], left: list[str] | None
) -> None:
    recipe, run = make_two_phases(), make_run(tmp_path)
    if left is not None:
        folder = tmp_path / "difficulty/0-answerer"
        folder.mkdir(parents=True)
        rows = [measure_row(name) for name in left]
        (folder / DIFFICULTY_FILE).write_text("".join(row.model_dump_json() + "\n" for row in rows))
    state = make_state(recipe.phases()[1])
    with pytest.raises(StorageError, match=r"keeps rows as phase 0-answerer measured them, and .* each of 4 rows"):
        await choose.choose_phase_rows(recipe, state, ROWS, run, print, StopRequest(print))
    assert measured == []


async def test_fewer_rows_of_a_kind_than_a_step_needs_are_a_sentence(tmp_path: Path, measured: list[str]) -> None:
    recipe = make_two_phases(["rollout.prompts_per_step=2"])
    state = make_state(recipe.phases()[0])
    with pytest.raises(ConfigError, match=r"^phase 0-answerer: 1 easy row is fewer than one step's 2"):
        await choose.choose_phase_rows(recipe, state, ROWS, make_run(tmp_path), print, StopRequest(print))


@dataclass(frozen=True)
class Half(World):
    """The first of two processes, or the other: as if it measured the first half of the rows, the other the rest."""

    size: int = 2

    def gather(self, own: Sequence[Any]) -> list[Any]:
        return [*own, *([FINE] if isinstance(own[0], int) else [measure_row(name) for name in "cd"])]

    def share(self, items: Sequence[Any]) -> list[Any]:
        return [*items[:2]]


async def test_processes_measure_and_read_their_shares_and_the_first_writes_the_files(
    tmp_path: Path, measured: list[str]
) -> None:
    recipe, run = make_two_phases(), make_run(tmp_path)
    for phase, kept in zip(recipe.phases(), (["a"], ["b", "d"]), strict=True):
        state = make_state(phase, Half())
        chosen = await choose.choose_phase_rows(recipe, state, ROWS, run, print, StopRequest(print))
        assert [row.id for row in chosen.rows] == kept
    assert [name for name in measured if len(name) == 1] == ["a", "b"]
    folder = tmp_path / "difficulty"
    assert sorted(path.name for path in folder.iterdir()) == ["0-answerer", "0-answerer.0"]
    assert len((folder / "0-answerer/medium.jsonl").read_text().splitlines()) == 2


async def test_the_other_processes_write_no_files(tmp_path: Path, measured: list[str]) -> None:
    recipe, run = make_two_phases(), make_run(tmp_path)
    state = make_state(recipe.phases()[0], Half(rank=1))
    await choose.choose_phase_rows(recipe, state, ROWS, run, print, StopRequest(print))
    assert [path.name for path in (tmp_path / "difficulty").iterdir()] == ["0-answerer.1"]


def make_file(folder: Path, **fields: object) -> list[str]:
    Image.new("RGB", (64, 48), "navy").save(folder / "a.png")
    row = {"image": "a.png", "question": "Which color?", **fields}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return ["model.source=nano", f"data.source={folder}/rows.jsonl", "reward.terms={format=1.0}"]


def test_phases_that_differ_in_difficulty_alone_read_their_rows_once(tmp_path: Path) -> None:
    loaded = choose.load_rows(make_two_phases(make_file(tmp_path, target="blue")))
    assert loaded[0] is loaded[1]


def test_rows_that_are_kept_by_right_answers_need_them_whatever_is_rewarded(tmp_path: Path) -> None:
    changes = make_file(tmp_path)
    with pytest.raises(DataError, match="it has no right answer"):
        choose.load_rows(make_two_phases(changes))
    plain = make_recipe(['schedule=[{role="answerer"}]', *changes])
    assert len(choose.load_rows(plain)[0].rows) == 1
