"""A study's file: what it may say, and what is refused with which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2r.errors import ConfigError
from p2r.studies.cells import StudyCell
from p2r.studies.quick import make_quick
from p2r.studies.study import load_study
from p2r.studies.trial import make_trial
from tests.fakes.studies import make_study


def test_a_study_is_read_with_its_recipes(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    assert list(study.arms) == ["start", "both", "first"]
    assert [study.seeds_of(name) for name in study.arms] == [(), (0, 1, 2), (0, 1, 2)]
    assert study.list_cells() == [StudyCell(evaluation="fresh", arm="both"), StudyCell(evaluation="fresh", arm="start")]
    recipe = study.recipe_of("both", 1, Path("here"), "there")
    assert (recipe.seed, str(recipe.out), recipe.model.source, recipe.data.num_rows) == (1, "here", "there", 64)


def test_a_recipe_is_looked_for_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('out = "x"\ndata = { source = "needles", num_rows = 7 }\n', encoding="utf-8")
    study = make_study(tmp_path, changes=['arms.both.recipe="own.toml"', "arms.both.set=[]"])
    assert study.recipe_of("both", 0, Path("here"), None).data.num_rows == 7


def test_settings_of_all_recipes_are_said_once_and_an_arm_counts_more(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["set=['data.num_rows=5', 'phase.lr=0.5', 'data.seed=3']"])
    recipe = study.recipe_of("both", 0, Path("here"), None)
    assert (recipe.data.num_rows, recipe.data.seed) == (64, 3)


def test_a_cell_is_said_by_its_table_its_row_and_its_column(tmp_path: Path) -> None:
    study = make_study(
        tmp_path,
        """
[[tables]]
title = "Table 3"
evaluation = "fresh"
mode = "oracle"
rows = [{ name = "base", arm = "start" }, { name = "pair", perceiver = "first", arm = "start", mode = "p2r" }]
columns = [{ name = "accuracy" }, { name = "hits", measure = "hit rate", mode = "random" }]
""",
    )
    [[first, hits], [pair, _]] = study.tables[0].list_cells()
    assert (first.mode, first.measure, first.perceiver) == ("oracle", "accuracy", None)
    assert (hits.mode, hits.measure) == ("random", "hit rate")
    assert (pair.mode, pair.perceiver, pair.arm) == ("p2r", "first", "start")


def test_the_quick_version_has_fewer_seeds_and_questions_and_a_folder_of_its_own(tmp_path: Path) -> None:
    study = make_study(tmp_path, '\n[quick]\nseeds = [4]\nnum = 8\nsteps = 3\nset = ["data.num_rows=9"]\n')
    quick = make_quick(study)
    assert quick.out == tmp_path / "out-quick"
    assert quick.seeds_of("both") == (4,)
    assert quick.evaluations["fresh"].num == 8
    recipe = quick.recipe_of("both", 4, Path("x"), None)
    assert [phase.steps for phase in recipe.phases()] == [3, 3]
    assert recipe.data.num_rows == 9
    assert quick.arms["start"] == study.arms["start"]
    assert quick.folder == study.folder


def test_an_arm_may_change_more_for_the_quick_version(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=['arms.both.quick=["iterations=2", "data.num_rows=5"]'])
    assert len(study.recipe_of("both", 0, Path("x"), None).phases()) == 2
    recipe = make_quick(study).recipe_of("both", 0, Path("x"), None)
    assert len(recipe.phases()) == 4
    assert recipe.data.num_rows == 5


def test_phases_that_make_passes_have_steps_in_the_quick_version(tmp_path: Path) -> None:
    schedule = (
        'schedule=[{role="perceiver", passes=2, lr=1e-5, '
        'rollout={group_size=4}, reward={set="release"}}, {role="reasoner", steps=9}]'
    )
    study = make_study(tmp_path, "\n[quick]\nsteps = 3\n", changes=[f"arms.both.set={json.dumps([schedule])}"])
    assert study.recipe_of("both", 0, Path("x"), None).phases()[0].steps is None
    before, _ = study.recipe_of("both", 0, Path("x"), None).phases()
    first, second = make_quick(study).recipe_of("both", 0, Path("x"), None).phases()
    assert (first.steps, second.steps) == (3, 3)
    assert (first.lr, first.rollout, first.reward) == (before.lr, before.rollout, before.reward)
    assert make_trial(study).arms


def claim(*lines: str) -> str:
    """Another claim in the file of a study."""
    return "\n".join(["[[claims]]", "name='odd'", "says='x'", "evaluation='fresh'", *lines, ""])


FILES = """
[files.rows]
module = "recipes.pebr_r1.captions"
last = "held_out.jsonl"
args = ["--train", "9"]
quick = ["--train", "3"]
"""


def test_settings_name_the_folder_of_files_that_a_script_makes(tmp_path: Path) -> None:
    study = make_study(tmp_path, FILES, changes=['arms.both.set=["data.source={files.rows}/train.jsonl"]'])
    assert study.recipe_of("both", 0, Path("x"), None).data.source == f"{tmp_path}/out/files/rows/train.jsonl"
    assert study.list_files("both") == ["rows"]
    assert study.list_files("start") == []
    quick = make_quick(study)
    assert quick.recipe_of("both", 0, Path("x"), None).data.source == f"{tmp_path}/out-quick/files/rows/train.jsonl"
    of_all = make_study(tmp_path, FILES, changes=["set=['data.source={files.rows}/train.jsonl']"])
    assert of_all.recipe_of("both", 0, Path("x"), None).data.source == f"{tmp_path}/out/files/rows/train.jsonl"
    assert (of_all.list_files("both"), of_all.list_files("start")) == (["rows"], [])
    assert (study.files["rows"].args, quick.files["rows"].args) == (("--train", "9"), ("--train", "3"))


def test_evaluations_with_the_same_questions_share_a_name(tmp_path: Path) -> None:
    more = "".join(
        f'[evaluations.{name}]\nbenchmark = "needles"\nnum = {num}\nseed = 9000\nprompts = "paper"\n'
        for name, num in (("reworded", 40), ("fewer", 30))
    )
    study = make_study(tmp_path, more)
    assert [study.name_questions(name) for name in study.evaluations] == ["fresh", "fresh", "fewer"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[arms.odd]\nsays = 'x'\n", "one of checkpoint, recipe and of, not none"),
        ("[arms.odd]\ncheckpoint = 'a'\nrecipe = 'nano'\n", "one of checkpoint, recipe and of, not checkpoint, recipe"),
        ("[arms.odd]\nof = 'both'\n", "of and phase go together"),
        ("[arms.odd]\ncheckpoint = 'a'\nset = ['seed=1']\n", "belong to an arm with a recipe"),
        ("[arms.odd]\ncheckpoint = 'a'\nseeds = [1]\n", "seeds belong to an arm with a recipe"),
        ("[arms.odd]\nof = 'start'\nphase = '0-perceiver'\n", "a phase of 'start', which is not trained"),
        ("[arms.odd]\nof = 'bath'\nphase = '0-perceiver'\n", "needs the arm 'bath'; there are start, both, first, odd"),
        ("[arms.odd]\nof = 'both'\nphase = '9-x'\n", "arm odd: both has no phase '9-x'"),
        ("[arms.odd]\nrecipe = 'nano'\nstart = 'odd'\n", "in a circle: 'odd' -> 'odd'"),
        (
            "[arms.odd]\nrecipe = 'nano'\nstart = 'both'\nseeds = [2, 9]\n",
            "has seeds that 'both', from which it starts, lacks",
        ),
        ("[arms.odd]\nrecipe = 'none'\n", "arm odd: the recipe none cannot be read"),
        ("[arms.odd]\nrecipe = 'nano'\nset = ['sead=1']\n", "arm odd: .* has the unknown setting sead"),
        (
            "[[claims]]\nname='training'\nsays='x'\nevaluation='fresh'\nplus=[{arm='both'}]\n",
            "two claims have the name",
        ),
        (
            "[[claims]]\nname='x'\nsays='x'\nevaluation='fresh'\nplus=[{arm='bath'}]\n",
            "no arm 'bath'; there are start,",
        ),
        ("[[claims]]\nname='x'\nsays='x'\nevaluation='frash'\nplus=[{arm='both'}]\n", "no evaluation 'frash'"),
        ("[[claims]]\nname='x'\nsays='x'\nplus=[{arm='both'}]\n", "claim 'x' has a cell without evaluation"),
        ("[[claims]]\nname='x'\nsays='x'\nevaluation='fresh'\nplus=[{}]\n", "claim 'x' has a cell without arm"),
        ("[[claims]]\nname='x'\nsays='x'\nplus=[]\n", "at least 1 entry"),
        ("[[claims]]\nname='x'\nsays='x'\nexpects='alike'\nplus=[{arm='both'}]\n", "needs a margin"),
        ("[[objections]]\nsays='x'\nclaims=['nothing']\n", "no claim 'nothing'; there are training"),
        ("[[curves]]\ntitle='x'\nmetric='kl'\narms=['start']\n", "the arm 'start' is not trained"),
        ("[[curves]]\ntitle='x'\nmetric='kl'\narms=['bath']\n", "no arm 'bath'"),
        ("[evaluations.odd]\nbenchmrk='needles'\n", "unknown setting evaluations.odd.benchmrk"),
        ("[evaluations.odd]\nbenchmark='needles'\nnum=-3\n", "evaluations.odd.num is -3: it must be above 0"),
        (
            "[[tables]]\ntitle='x'\nrows=[{name='a'}]\ncolumns=[{name='b'}]\npaper={columns=['a'],rows=[['b','c']]}\n",
            "has another number of cells than the columns",
        ),
        ("[arms.'../up']\ncheckpoint='nano'\n", "'../up' cannot be the name of a folder"),
        ("[files.'../up']\nmodule='x'\nlast='y'\n", "'../up' cannot be the name of a folder"),
        ("[arms.odd]\nrecipe='nano'\nset=['data.source={files.odd}/x']\n", "arm odd: {files.odd} stands for files"),
        ("[arms.odd]\ncheckpoint='nano'\nquick=['seed=1']\n", "belong to an arm with a recipe"),
        ("[arms.odd]\nrecipe='nano'\nseeds=[3, 4, 3]\n", "seeds holds 3 twice"),
        ("[quick]\nseeds=[5, 5]\n", "seeds holds 5 twice"),
        ("[arms.odd]\nrecipe='nano'\nseeds=['x']\n", r"arms\.odd\.seeds\.0 is 'x': it must be a whole number"),
        ("[arms.odd]\nrecipe='nano'\nseeds=[-1]\n", r"arms\.odd\.seeds\.0 is -1: it must be at least 0"),
        ("[arms.odd]\nrecipe='nano'\nseeds=[]\n", "at least 1 entry"),
        ("[arms.odd]\nrecipe='nano'\nnum_processes=0\n", "arms.odd.num_processes is 0: it must be above 0"),
        ("[arms.odd]\ncheckpoint='nano'\nnum_processes=2\n", "belong to an arm with a recipe"),
        ("[arms.a]\nrecipe='nano'\nstart='b'\n[arms.b]\nof='zz'\nphase='x'\n", "the arm 'b' needs the arm 'zz'"),
        ("[arms.a]\nrecipe='nano'\nstart='b'\n[arms.b]\nrecipe='nano'\nstart='a'\n", "in a circle: 'a' -> 'b' -> 'a'"),
        ("nonsense\n", "is not TOML"),
        (claim("plus=[{arm='both'}]", "margin=inf"), "claims.1.margin is inf: it must be a finite number"),
        (claim("plus=[{arm='both'}]", "per=inf"), "claims.1.per is inf: it must be a finite number"),
        (claim("plus=[{arm='both'}]", "expects='alike'", "margin=3"), "margin 3, and .* lies between 0 and 1"),
        (claim("plus=[{arm='both'}]", "expects='less'", "margin=0.1"), "expects less, .* lies between 0 and 1"),
        (claim("plus=[{arm='both'}]", "minus=[{arm='both'}]"), "takes off what it adds"),
        (claim("plus=[{arm='both', perceiver='start'}]", "mode='direct'"), "in mode 'direct', which asks none"),
        (f"[arms.{'x' * 65}]\ncheckpoint='nano'\n", "has 65 characters, and a name may have 64"),
        ("[arms.odd]\nrecipe='nano'\nset=['seed=3']\n", "has 'seed=3', and a study gives each training its own seed"),
        ("[arms.odd]\nrecipe='nano'\nquick=['out = x']\n", "arms.odd.quick has 'out = x'"),
        ("[arms.odd]\nrecipe='nano'\nstart='both'\nset=['model.source=x']\n", "starts from the arm 'both'"),
        ("[arms.odd]\nrecipe='nano'\nseeds=[4294967296]\n", "it must be below 4294967296"),
        ("[files.odd]\nmodule=''\nlast='y'\n", "files.odd.module is '': it must be text, and not empty"),
        ("[[tables]]\nrows=[{name='a'}]\ncolumns=[{name='b'}]\n", "tables.0.title is missing"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_study(tmp_path, "\n" + more)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        (claim("plus=[{arm='bath'}]"), "did you mean 'both'?"),
        ("[[objections]]\nsays='x'\nclaims=['trainings']\n", "did you mean 'training'?"),
        ("[arms.odd]\nof='bath'\nphase='0-perceiver'\n", "did you mean 'both'?"),
        ("[arms.odd]\nrecipe='nano'\nstart='zzz'\n", "change arms.odd.start"),
        ("[arms.odd]\nrecipe='nano'\nset=['schedule=[]']\n", "with schedule=... in the arm's set"),
    ],
)
def test_a_hint_says_what_was_meant_or_where_it_is_said(tmp_path: Path, more: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_study(tmp_path, "\n" + more)
    assert hint in caught.value.hint


def test_claims_that_answers_can_decide_are_taken(tmp_path: Path) -> None:
    slope = claim("plus=[{arm='start'}, {arm='both'}]", "minus=[{arm='start'}, {arm='first'}]", "slope=true")
    counted = claim("plus=[{arm='both'}]", "measure='boxes'", "margin=2.0").replace("'odd'", "'counted'")
    assert len(make_study(tmp_path, slope + counted).claims) == 3


@pytest.mark.parametrize("out", ["", ".", "..", "/", '"a\\u0000b"', "x" * 300])
def test_the_folder_of_a_study_is_its_own(tmp_path: Path, out: str) -> None:
    with pytest.raises(ConfigError, match=r"out is .*it (must|cannot) be the path of a folder") as caught:
        make_study(tmp_path, changes=[f"out={out}"])
    assert "name the folder" in caught.value.hint


def test_the_quick_version_is_checked_too(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["quick.set=['probe.seed=9000']"])
    with pytest.raises(ConfigError, match=r"the quick version: .* the probe of arm both asks the same questions"):
        make_quick(study)
    larger = ["arms.both.set=['data.num_rows=9', 'iterations=2']", "arms.first.phase=2-perceiver"]
    study = make_study(tmp_path, changes=[*larger, "arms.both.quick=['iterations=1']"])
    with pytest.raises(ConfigError, match="the quick version: arm first: both has no phase '2-perceiver'"):
        make_quick(study)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    make_study(tmp_path)
    path = tmp_path / "study.toml"
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load_study(path).title == "Does it help?"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the study .*none\.toml cannot be read: no such file") as caught:
        load_study(tmp_path / "none.toml")
    assert "TOML file" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("arms.strat.checkpoint=nano", "did you mean arms.start?"), ("arms.zzz.checkpoint=nano", "start, both, first"),
        ("evaluations.fres.num=3", "did you mean evaluations.fresh?"),
    ],
)  # fmt: skip
def test_a_change_of_a_name_that_the_study_does_not_have_is_refused(tmp_path: Path, change: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="cannot be changed: the study has none of this name") as caught:
        make_study(tmp_path, changes=[change])
    assert hint in caught.value.hint
