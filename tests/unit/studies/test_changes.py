"""What a gain is made of, and slopes."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.errors import ConfigError
from p2r.studies.changes import tabulate_gains, tabulate_trend
from p2r.studies.claims import find_slope_weights
from p2r.studies.listing import tabulate_study
from p2r.studies.measure import Reader
from p2r.studies.study import Study
from p2r.studies.verdicts import judge_claims
from p2r.types import Box
from tests.fakes.studies import build_page, make_study, write_answers

AWAY = (Box(x1=600, y1=600, x2=900, y2=900),)

CHANGES = """
[[gains]]
title = "Made of"
evaluation = "fresh"
before = { arm = "start" }
rows = [{ name = "trained", arm = "both" }, { name = "one look", arm = "both", mode = "direct" }]

[[trends]]
title = "Growth"
evaluation = "fresh"
points = ["1", "2", "3"]
rows = [
    { name = "two looks", cells = [{ arm = "start" }, { arm = "first" }, { arm = "both" }] },
    { name = "one look", mode = "direct", cells = [{ arm = "start" }, { arm = "first" }, { arm = "both" }] },
]
paper = { columns = ["", "slope"], rows = [["two looks", "0.77"]] }

[[claims]]
name = "grows faster"
says = "Two looks grow faster."
evaluation = "fresh"
plus = [{ arm = "start" }, { arm = "first" }, { arm = "both" }]
minus = [{ arm = "start", mode = "direct" }, { arm = "first", mode = "direct" }, { arm = "both", mode = "direct" }]
slope = true
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Before, 10 of 40 are right, 10 looked elsewhere, 20 read wrongly; after, 30 are right, 2 looked elsewhere."""
    made = make_study(tmp_path, CHANGES)
    write_answers(made, "start", None, [True] * 10 + [False] * 30, boxes=dict.fromkeys(range(10, 20), AWAY))
    write_answers(made, "start", None, [True] * 10 + [False] * 30, mode="direct")
    for seed in (0, 1, 2):
        write_answers(made, "both", seed, [True] * 30 + [False] * 10, boxes=dict.fromkeys((38, 39), AWAY))
        write_answers(made, "both", seed, [True] * 14 + [False] * 26, mode="direct")
        write_answers(made, "first", seed, [True] * 14 + [False] * 26)
        write_answers(made, "first", seed, [True] * 12 + [False] * 28, mode="direct")
    return made


def test_slope_weights_are_those_of_a_least_squares_line() -> None:
    assert find_slope_weights(2) == [-1.0, 1.0]
    assert find_slope_weights(3) == [-0.5, 0.0, 0.5]
    assert sum(w * y for w, y in zip(find_slope_weights(4), (1.0, 3.0, 5.0, 7.0), strict=True)) == pytest.approx(2.0)
    assert sum(find_slope_weights(4)) == pytest.approx(0.0)


def test_a_gain_is_the_sum_of_what_each_kind_of_miss_lost(study: Study) -> None:
    table = tabulate_gains(study.gains[0], Reader(study))
    assert table.columns == ("", "gain", "format", "spelling", "place", "reading")
    [trained, one_look] = table.rows
    assert [cell.split(" ")[0] for cell in trained] == ["trained", "+50.0", "0.0", "0.0", "+20.0", "+30.0"]
    assert trained[1].split(" ", 1)[1].startswith("[+")
    # before is asked in the row's mode as well, where nothing can be in the wrong place
    assert [cell.split(" ")[0] for cell in one_look[1:]] == ["+10.0", "0.0", "-", "-", "+10.0"]
    assert "trained arms have 3 seeds" in " ".join(table.notes)


def test_a_gain_from_another_mode_counts_what_only_one_of_both_can_miss(tmp_path: Path) -> None:
    made = make_study(
        tmp_path, CHANGES.replace('before = { arm = "start" }', 'before = { arm = "start", mode = "p2r" }')
    )
    write_answers(made, "start", None, [False] * 4, boxes={0: AWAY})
    for seed in (0, 1, 2):
        write_answers(made, "both", seed, [True, True, False, False], mode="direct")
    row = tabulate_gains(made.gains[0], Reader(made)).rows[1]
    assert [cell.split(" ")[0] for cell in row[1:]] == ["+50.0", "0.0", "0.0", "+25.0", "+25.0"]


def test_a_gain_is_a_dash_until_both_sides_are_measured(tmp_path: Path) -> None:
    made = make_study(tmp_path, CHANGES)
    write_answers(made, "start", None, [False] * 4, boxes={0: AWAY})
    table = tabulate_gains(made.gains[0], Reader(made))
    assert table.rows[0] == ("trained", *["-"] * 5)
    assert tabulate_trend(made.trends[0], Reader(made)).rows[0][2:] == ("-", "-", "-")


def test_a_trend_has_its_points_and_the_slope_of_their_line(study: Study) -> None:
    table = tabulate_trend(study.trends[0], Reader(study))
    assert table.columns == ("", "1", "2", "3", "slope")
    [two, one] = table.rows
    assert [cell.split(" ")[0] for cell in two] == ["two", "25.0%", "35.0%", "75.0%", "+25.0"]
    assert [cell.split(" ")[0] for cell in one[1:]] == ["25.0%", "30.0%", "35.0%", "+5.0"]
    assert two[-1].split(" ", 1)[1].startswith("[+")


def test_a_slope_is_in_the_unit_of_its_measure(tmp_path: Path) -> None:
    made = make_study(tmp_path, CHANGES, changes=["trends.0.measure=tokens"])
    for arm, seeds, num_tokens in (("start", (None,), 100), ("first", (0, 1), 110), ("both", (0, 1), 130)):
        for seed in seeds:
            write_answers(made, arm, seed, [True] * 4, num_tokens=num_tokens)
    row = tabulate_trend(made.trends[0], Reader(made)).rows[0]
    assert [cell.split(" ")[0] for cell in row[1:]] == ["100", "110", "130", "+15"]


def test_a_claim_about_slopes_is_the_difference_of_the_lines(study: Study) -> None:
    judged = {each.claim.name: each for each in judge_claims(study, Reader(study))}["grows faster"]
    assert judged.estimate is not None
    assert judged.estimate.mean == pytest.approx(0.25 - 0.05)
    assert judged.verdict == "holds"
    assert judged.seed_p_values == ()


def test_tables_and_page_show_both_with_the_papers_slopes(study: Study) -> None:
    reader = Reader(study)
    judged = judge_claims(study, reader)
    tables = tabulate_study(study, reader, judged)
    titles = [table.title for table in tables.list_all()]
    assert titles == [
        "Claims", "Made of", "Growth", "Growth: the paper", "What each arm cost", "Which questions, by which seed",
        "Weights",
    ]  # fmt: skip
    html = build_page(study, "p2r study x.toml")
    for part in ("Made of", 'href="#trends"', ">iterations</text>", "0.77"):
        assert part in html, part


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[[claims]]\nname='x'\nsays='x'\nevaluation='fresh'\nplus=[{arm='both'}]\nslope=true\n", "at least two cells"),
        (
            "[[claims]]\nname='x'\nsays='x'\nevaluation='fresh'\nplus=[{arm='both'},{arm='first'}]\n"
            "minus=[{arm='both'}]\nslope=true\n",
            "at least two cells",
        ),
        (
            "[[trends]]\ntitle='x'\npoints=['1','2','3']\nrows=[{name='a',cells=[{arm='both'},{arm='both'}]}]\n",
            "'a' has another number of cells than the points",
        ),
        ("[[gains]]\ntitle='x'\nbefore={arm='start'}\nrows=[{name='a',arm='both'}]\n", "a cell without evaluation"),
        (
            "[[gains]]\ntitle='x'\nevaluation='fresh'\nbefore={arm='stort'}\nrows=[{name='a',arm='both'}]\n",
            "no arm 'stort'",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_study(tmp_path, "\n" + more)
