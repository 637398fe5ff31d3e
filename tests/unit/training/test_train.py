"""What the door refuses."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from p2r.errors import ConfigError
from p2r.training.train import train
from tests.fakes.training import make_recipe


def test_a_checked_recipe_takes_no_changes() -> None:
    """A preset, or a table of a phase, has been filled in with what would be changed."""
    with pytest.raises(ConfigError, match="a checked recipe cannot be changed"):
        train(make_recipe(), changes=["loss.estimator=dapo"])


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({"recipe": None}, "recipe is None", "recipe="),
        ({"recipe": [1]}, r"recipe is \[1\]", "recipe="),
        ({"recipe": {}, "changes": "seed=2"}, "changes is 'seed=2'", "changes=['seed=2']"),
        ({"recipe": make_recipe(), "changes": "seed=2"}, "a checked recipe cannot be changed", "load_recipe"),
        ({"recipe": {}, "changes": None}, "changes is None", "changes="),
        ({"recipe": {}, "changes": [2]}, "changes holds 2", "changes="),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused_by_its_name(
    arguments: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        train(**arguments)
    assert hint in caught.value.hint
