"""What pre-rollouts depend on."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from p2r.training.rows.choose import _hash_recipe  # pyright: ignore[reportPrivateUsage]
from tests.fakes.training import make_recipe

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
