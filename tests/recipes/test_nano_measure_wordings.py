"""The table of wordings: which are asked, what is new to the model among them, and how they are compared."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from recipes.nano.measure_wordings import MODES, list_wordings, tabulate
from recipes.nano.wording import LAYOUTS, TRAINED, UNTRAINED, UNTRAINED_LAYOUTS

WORDINGS = list_wordings()


def test_first_wording_is_that_of_p2r_eval() -> None:
    assert WORDINGS[0].name == "release, headed"
    assert WORDINGS[0].style.prompts.name == "release"
    assert (WORDINGS[0].style.closing, WORDINGS[0].form) == ("", "choice")


def test_names_differ() -> None:
    assert len({wording.name for wording in WORDINGS}) == len(WORDINGS)


def test_all_layouts_and_thirty_paraphrases_of_each_kind_are_asked() -> None:
    layouts = {wording.style.layout for wording in WORDINGS}
    assert layouts == {*LAYOUTS.values(), *UNTRAINED_LAYOUTS.values()}
    for name, wordings in (("trained", TRAINED), ("unseen", UNTRAINED)):
        asked = [wording.style.prompts for wording in WORDINGS if wording.name.startswith(f"{name} paraphrase")]
        for role in ("perceiver", "reasoner", "thinking", "direct"):
            assert {prompts.texts[role] for prompts in asked} == set(wordings.texts[role])


def test_unseen_wordings_hold_something_that_is_not_trained() -> None:
    unseen = [wording for wording in WORDINGS if wording.name.startswith("unseen")]
    assert len(unseen) == 35
    for wording in unseen:
        style = wording.style
        assert (
            style.layout in UNTRAINED_LAYOUTS.values()
            or style.closing in UNTRAINED.texts["closings"]
            or style.prompts.texts["perceiver"] in UNTRAINED.texts["perceiver"]
        )


def test_change_is_paired_with_the_first_row() -> None:
    right = [True] * 60 + [False] * 40
    worse = [True] * 50 + [False] * 50
    base = dict.fromkeys(MODES, right)
    table = tabulate("nano", {"first": base, "second": {**base, "own": worse}, "fewer": {key: [True] for key in MODES}})
    first, second, fewer = table.rows
    assert first[1:] == ("100", "0.600", "0.600", "0.600", "-", "-")
    assert second[3] == "0.500" and second[5].startswith("+0.0 [") and second[6].startswith("-10.0 [-1")
    assert fewer[5:] == ("-", "-")
