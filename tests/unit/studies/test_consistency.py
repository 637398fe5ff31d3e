"""What cannot fit together in a study is refused when it is read, and what nothing needs is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.errors import ConfigError
from p2r.studies.consistency import list_idle, list_needed_arms
from tests.fakes.studies import make_study

CLAIM = "[[claims]]\nname='x'\nsays='x'\nevaluation='fresh'\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (CLAIM + "mode='direct'\nmeasure='hit rate'\nplus=[{arm='both'}]\n", "'hit rate', which mode 'direct' lacks"),
        (CLAIM + "mode='direct'\nmeasure='box size'\nplus=[{arm='both'}]\n", "'box size', which mode 'direct' lacks"),
        (CLAIM + "mode='none'\nmeasure='spelling'\nplus=[{arm='both'}]\n", "'spelling', which mode 'none' lacks"),
        (
            CLAIM + "plus=[{arm='both', measure='tokens'}]\nminus=[{arm='start'}]\n",
            "adds up tokens and points, which have no common unit",
        ),
        (
            CLAIM + "plus=[{arm='both', measure='IoU'}]\nminus=[{arm='start', measure='boxes'}]\n",
            "adds up IoU and boxes",
        ),
        (
            "[arms.odd]\nrecipe='nano'\nseeds=[7]\n" + CLAIM + "plus=[{arm='both', perceiver='odd'}]\n",
            "'both' and 'odd' are asked together, and share no seed",
        ),
        (CLAIM + "plus=[{arm='both', perceiver='bath'}]\n", "no arm 'bath'"),
        ("[[curves]]\ntitle='x'\nmetric='hit_rte'\narms=['both']\n", "as 'hit_rte'; did you mean 'hit_rate'"),
        ("[[curves]]\ntitle='x'\nmetric='timing'\narms=['both']\n", "nothing is logged as 'timing'"),
        ("[[curves]]\ntitle='x'\nmetric='kl/x'\narms=['both']\n", "nothing is logged as 'kl/x'"),
    ],
)
def test_what_could_never_be_measured_is_refused(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_study(tmp_path, "\n" + more)


@pytest.mark.parametrize(
    "more",
    [
        CLAIM + "plus=[{arm='both', measure='in crops'}]\nminus=[{arm='start'}]\n",
        CLAIM + "plus=[{arm='both', mode='oracle', measure='hit rate'}]\n",
        CLAIM + "plus=[{arm='both', mode='direct', measure='reading'}]\n",
        "[arms.odd]\nrecipe='nano'\nseeds=[2, 7]\n" + CLAIM + "plus=[{arm='both', perceiver='odd'}]\n",
        "[[curves]]\ntitle='x'\nmetric='timing/seconds'\narms=['both']\n",
        "[[curves]]\ntitle='x'\nmetric='accuracy_p2r'\narms=['both']\n",
    ],
)
def test_what_can_be_measured_is_not(tmp_path: Path, more: str) -> None:
    make_study(tmp_path, "\n" + more)


def test_arms_evaluations_and_files_that_nothing_needs_are_named(tmp_path: Path) -> None:
    assert list_idle(make_study(tmp_path, changes=["claims.0.plus.0.arm=first"])) == []
    more = '\n[arms.idle]\nrecipe = "nano"\n[evaluations.unused]\nbenchmark = "needles"\n'
    made = '\n[files.rows]\nmodule = "recipes.pebr_r1.captions"\nlast = "x.jsonl"\n'
    assert "No claim, table or chart needs the files rows: left out." in list_idle(make_study(tmp_path, made))
    learned = made + '[arms.late]\nrecipe = "nano"\nset = ["data.source={files.rows}/x.jsonl"]\n'
    learned += '[[curves]]\ntitle = "x"\nmetric = "kl"\narms = ["late"]\n'
    assert not any("rows" in said for said in list_idle(make_study(tmp_path, learned)))
    assert list_idle(make_study(tmp_path, more)) == [
        "No claim, table or chart needs the arm first: left out.",
        "No claim, table or chart needs the arm idle: left out.",
        "No claim, table or chart needs the evaluation unused: left out.",
    ]
    drawn = more + '[[curves]]\ntitle = "x"\nmetric = "kl"\narms = ["idle"]\n'
    assert not any("idle" in said for said in list_idle(make_study(tmp_path, drawn)))
    started = more + '[arms.later]\nrecipe = "nano"\nstart = "idle"\n'
    started += (
        '[[claims]]\nname = "x"\nsays = "x"\nevaluation = "unused"\nplus = [{ arm = "start", perceiver = "later" }]\n'
    )
    assert list_idle(make_study(tmp_path, started)) == ["No claim, table or chart needs the arm first: left out."]


def test_a_needed_arm_comes_after_those_that_it_needs(tmp_path: Path) -> None:
    more = '\n[arms.later]\nrecipe = "nano"\nstart = "first"\n'
    more += '[[curves]]\ntitle = "x"\nmetric = "kl"\narms = ["later"]\n'
    assert list_needed_arms(make_study(tmp_path, more)) == ["both", "first", "later", "start"]
