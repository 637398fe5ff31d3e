"""The demonstrator of the cold start: how often it is wrong, and that what it says hangs together."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from p2r.benchmarks.needles import draw_question, to_sample
from p2r.benchmarks.needles.knobs import Family, Knobs
from p2r.benchmarks.needles.questions import Question
from p2r.benchmarks.needles.scene import PATTERNS, Scene
from recipes.nano.demonstrator import LOOK_ALIKES, Demonstrator, asked_pattern
from recipes.nano.rows import reasoner_reply
from recipes.nano.wording import ask_for_count

ALWAYS = Demonstrator(1.0, dict.fromkeys(PATTERNS, 1.0), 1.0)
NEVER = Demonstrator(0.0, {}, 0.0)


def draw(seed: int, family: Family, *, choice: bool = False) -> tuple[np.random.RandomState, Scene, Question]:
    rng = np.random.RandomState(seed)
    return rng, *draw_question(rng, Knobs(families=(family,)), family, choice=choice)


def test_every_pattern_has_a_look_alike_that_has_it() -> None:
    assert sorted(LOOK_ALIKES) == sorted(PATTERNS)
    assert all(LOOK_ALIKES[LOOK_ALIKES[pattern]] == pattern != LOOK_ALIKES[pattern] for pattern in PATTERNS)


@pytest.mark.parametrize("family", ["attribute", "pair", "relation", "absent"])
@pytest.mark.parametrize("choice", [False, True])
def test_without_faults_all_is_as_it_is(family: Family, choice: bool) -> None:
    rng, scene, question = draw(1, family, choice=choice)
    assert NEVER.look(rng, question) == question.subjects
    assert NEVER.read(rng, scene, question) == (scene, question)


@pytest.mark.parametrize("family", ["pair", "relation"])
def test_of_two_objects_only_the_first_is_boxed(family: Family) -> None:
    rng, _, question = draw(2, family)
    assert ALWAYS.look(rng, question) == question.subjects[:1]
    half = Demonstrator(0.5, {}, 0.0)
    assert 60 < sum(len(half.look(rng, question)) == 1 for _ in range(200)) < 140


def test_one_object_is_never_overlooked() -> None:
    rng, _, question = draw(2, "attribute")
    assert ALWAYS.look(rng, question) == question.subjects


@pytest.mark.parametrize("seed", range(12))
def test_a_misread_pattern_is_its_look_alike_and_the_answer_follows(seed: int) -> None:
    rng, scene, question = draw(seed, "pair")
    read, answered = ALWAYS.read(rng, scene, question)
    seen = [scene.objects[k].pattern for k in question.subjects]
    assert answered.answer == " and ".join(LOOK_ALIKES[pattern] for pattern in seen)
    assert [read.objects[k].pattern for k in question.subjects] == answered.answer.split(" and ")
    untouched = [k for k in range(len(scene.objects)) if k not in question.subjects]
    assert all(read.objects[k] == scene.objects[k] for k in untouched)


@pytest.mark.parametrize("seed", range(12))
def test_a_count_follows_from_what_was_read(seed: int) -> None:
    rng, scene, pair = draw(seed, "pair")
    count = ask_for_count(rng, scene, pair)
    read, answered = ALWAYS.read(rng, scene, count)
    assert answered.answer == str([read.objects[k].pattern for k in count.subjects].count(asked_pattern(count)))


@pytest.mark.parametrize("seed", range(12))
def test_yes_and_no_follow_from_what_was_read(seed: int) -> None:
    rng, scene, question = draw(seed, "absent", choice=True)
    read, answered = ALWAYS.read(rng, scene, question)
    seen = read.objects[question.subjects[0]].pattern
    assert answered.answer == ("yes" if seen == asked_pattern(question) else "no")


@pytest.mark.parametrize("seed", range(12))
def test_options_correct_what_would_lead_to_none_of_them(seed: int) -> None:
    rng, scene, question = draw(seed, "attribute", choice=True)
    read, answered = ALWAYS.read(rng, scene, question)
    alike = LOOK_ALIKES[question.answer]
    assert answered.answer == (alike if alike in question.options else question.answer)
    assert read.objects[question.subjects[0]].pattern == answered.answer


@pytest.mark.parametrize("seed", range(12))
def test_swapped_sides_change_the_thought_and_the_answer_alike(seed: int) -> None:
    rng, scene, question = draw(seed, "relation")
    read, answered = ALWAYS.read(rng, scene, question)
    assert {question.answer, answered.answer} == {"left", "right"}
    left, right = (scene.objects[k].pattern for k in question.subjects)
    reply = reasoner_reply(read, answered, to_sample(read, answered, ""))
    asked = asked_pattern(question)
    assert (
        reply
        == f"<think>left: {right}, right: {left}, {asked}: {answered.answer}</think><answer>{answered.answer}</answer>"
    )
    assert answered.answer == ("left" if right == asked else "right")


def test_shares_are_kept() -> None:
    faulty = Demonstrator(0.0, {"rising": 0.5, "checked": 0.15}, 0.0)
    wrong = dict.fromkeys(PATTERNS, 0)
    total = dict.fromkeys(PATTERNS, 0)
    for seed in range(600):
        rng, scene, question = draw(seed, "attribute")
        total[question.answer] += 1
        wrong[question.answer] += faulty.read(rng, scene, question)[1].answer != question.answer
    assert {pattern for pattern in PATTERNS if wrong[pattern]} == {"rising", "checked"}
    assert 0.35 < wrong["rising"] / total["rising"] < 0.65 and 0.05 < wrong["checked"] / total["checked"] < 0.28
