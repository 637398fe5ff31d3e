"""The judging model is looked for before the first step."""

from __future__ import annotations

import pytest

from p2r.config import JudgeSettings
from p2r.errors import EndpointError
from p2r.training.rewards.verifier import check_judges
from tests.fakes.endpoint_server import completion, serve
from tests.fakes.training import make_recipe


@pytest.mark.parametrize(
    ("models", "model", "message"),
    [
        (["a", "b"], "c", "has no model 'c'"),
        (["a", "b"], "", "has 2 models"),
        (["a", "b"], "b", ""),
        (["a"], "", ""),
    ],
)
async def test_a_judge_has_to_be_where_the_recipe_says(models: list[str], model: str, message: str) -> None:
    with serve(completion("yes"), models=models) as server:
        recipe = make_recipe([f"reward.judge={{url='{server.url}', model='{model}'}}"])
        if not message:
            await check_judges(recipe)
            return
        with pytest.raises(EndpointError, match=message) as caught:
            await check_judges(recipe)
    assert caught.value.hint == "set reward.judge.model to one of a, b"


async def test_a_judge_that_does_not_answer_is_told_with_what_to_do() -> None:
    recipe = make_recipe(["reward.judge={url='http://127.0.0.1:9/v1'}"])
    with pytest.raises(
        EndpointError, match=r"reward\.judge\.url = http://127\.0\.0\.1:9/v1, cannot be asked"
    ) as caught:
        await check_judges(recipe)
    assert 'reward.judge = "words"' in caught.value.hint


async def test_a_judge_of_one_phase_is_looked_for_and_one_that_nobody_needs_is_not() -> None:
    judge = "{url='http://127.0.0.1:9/v1'}"
    unneeded = make_recipe([f"reward={{judge={judge}, terms={{format=1}}}}"])
    await check_judges(unneeded)
    with pytest.raises(EndpointError):  # its rows are kept by right answers
        await check_judges(make_recipe([f"reward={{judge={judge}, terms={{format=1}}}}", "data.difficulty.keep=easy"]))
    second = f"{{role='reasoner', reward={{judge={judge}}}}}"
    with pytest.raises(EndpointError):
        await check_judges(make_recipe([f"schedule=[{{role='perceiver'}}, {second}]"]))


@pytest.mark.parametrize(("url", "model", "name"), [("#a", "", "a"), ("", "b", "b"), ("#a", "b", "b"), ("", "", "")])
def test_a_judge_may_be_named_behind_its_url_and_by_its_own_setting_first(url: str, model: str, name: str) -> None:
    assert JudgeSettings(url=f"http://x/v1{url}", model=model).address == ("http://x/v1", name)
