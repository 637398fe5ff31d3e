"""Pre-rollouts of a phase: what they depend on, and how they end in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from torch import nn

from p2r.errors import TooManyErrors, TrainingError
from p2r.runs.difficulty import RowDifficulty
from p2r.training.engines.local.distributed import World
from p2r.training.rows import choose
from p2r.training.rows.choose import _hash_recipe  # pyright: ignore[reportPrivateUsage]
from p2r.training.stopping import FAILED, FINE, STOPPED, StopRequest, StopRequested
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
    policy = SimpleNamespace(model=nn.Module(), checkpoint=SimpleNamespace(folder=Path()))
    state: Any = SimpleNamespace(phase=make_phase(recipe=recipe), world=Pair(others=(other, rows[1])), policy=policy)
    run: Any = SimpleNamespace(process_folder=lambda *_: Path())
    choosing = choose.choose_phase_rows(
        recipe, state, [make_sample("a"), make_sample("b")], run, print, StopRequest(print)
    )
    if expected is None:
        assert len((await choosing).rows) == 2
        return
    with pytest.raises(expected):
        await choosing
