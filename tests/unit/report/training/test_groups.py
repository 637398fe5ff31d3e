"""Groups of rollouts on the page."""

from __future__ import annotations

from dataclasses import replace

from p2r.report.kit.page import Headline
from p2r.report.training.groups import view_groups
from p2r.report.training.page import build_training_report
from p2r.runs.training import TrainingRun
from tests.fakes.training_runs import SAMPLE, make_group, make_trace, write_run

HEADLINE = Headline("Training", "It goes up.")


def test_the_perceivers_rollouts_have_images_of_their_own_and_the_reasoners_share_one(run: TrainingRun) -> None:
    (perceiver, reasoner), problems = view_groups([run], ["run"])
    assert problems == []
    assert perceiver.image is not None and perceiver.evidence is None
    assert [len(rollout.boxes) for rollout in perceiver.rollouts] == [1, 1, 0, 0]
    assert reasoner.evidence is not None and reasoner.image is None
    assert len(perceiver.gold) >= 1


def test_what_could_not_be_judged_is_masked_and_neither_right_nor_wrong(run: TrainingRun) -> None:
    (perceiver, reasoner), _ = view_groups([run], ["run"])
    assert [rollout.verdict for rollout in perceiver.rollouts] == ["right", "wrong", "failed", "failed"]
    assert [rollout.reward_text for rollout in perceiver.rollouts] == ["1", "0", "masked", "masked"]
    assert [rollout.masked for rollout in perceiver.rollouts] == [
        "",
        "",
        "masked: the server has gone",
        "masked: it was not judged",
    ]
    assert perceiver.flags == ("0:asked", "0:mixed", "0:failed")
    assert reasoner.flags == ("0:asked", "0:right")


def test_a_question_that_is_no_longer_in_the_data_says_so(run: TrainingRun) -> None:
    moved = run.recipe.data.model_copy(update={"num_rows": 1})
    cards, problems = view_groups([run], ["run"], data=moved)
    assert problems == ["1 of 1 questions are not in needles:1000000."]
    assert all(card.image is None and "was not found" in card.problem for card in cards)
    gone = run.recipe.data.model_copy(update={"source": "folder:nowhere"})
    assert view_groups([run], ["run"], data=gone)[1][0].startswith("The images were not found: ")


def test_an_image_of_another_question_is_not_shown(run: TrainingRun) -> None:
    other = make_group("0-perceiver", 1, "perceiver", [make_trace("A", sample=replace(SAMPLE, question="Who?"))])
    [card], _ = view_groups([write_run(run.folder.parent / "other", groups=[other])], ["run"])
    assert card.image is None and card.question == "Who?"


def test_groups_are_drawn_evenly_when_there_are_too_many(run: TrainingRun) -> None:
    cards, _ = view_groups([run], ["run"], max_groups=1)
    assert [card.number for card in cards] == [1]
    html, _ = build_training_report([run], HEADLINE, max_groups=1)
    assert "drawn evenly from 2" in html
