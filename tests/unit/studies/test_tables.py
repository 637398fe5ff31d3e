"""What a reader sees: tables, the plan and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from p2r.runs.training import PROBES_FILE
from p2r.studies.claims import StudyClaim
from p2r.studies.joblist import list_trainings
from p2r.studies.jobs import Progress
from p2r.studies.listing import tabulate_study
from p2r.studies.measure import Reader
from p2r.studies.page import make_headline
from p2r.studies.plan import tabulate_plan
from p2r.studies.study import Study
from p2r.studies.tables import (
    describe_chance,
    show_difference,
    show_expectation,
    tabulate_cells,
    tabulate_claims,
    tabulate_objections,
)
from p2r.studies.verdicts import judge_claims
from p2r.types import Box
from tests.fakes.studies import build_page, make_study, write_answers, write_training

AWAY = Box(x1=600, y1=600, x2=900, y2=900)

TABLE = """
[[tables]]
title = "Table 3 in miniature"
evaluation = "fresh"
note = "Both are small."
rows = [{ name = "base", arm = "start" }, { name = "trained", arm = "both" }]
columns = [{ name = "accuracy" }, { name = "IoU", measure = "IoU" }, { name = "tokens", measure = "tokens" }]
paper = { columns = ["", "V*"], rows = [["base", "89.0"], ["full", "93.2"]] }

[[costs]]
title = "Accuracy against tokens"
evaluation = "fresh"
points = [{ name = "two looks", arm = "start" }, { name = "trained", arm = "both" }]

[[curves]]
title = "Hits"
metric = "hit_rate"
arms = ["both"]

[[objections]]
says = "It may be luck."
claims = ["training"]
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = make_study(tmp_path, TABLE)
    write_answers(made, "start", None, [True, False] * 20)
    for seed in (0, 1):
        write_answers(made, "both", seed, [True] * 36 + [False] * 3 + [None], num_tokens=120)
    return made


def test_cells_have_intervals_and_the_paper_stands_beside_them(study: Study) -> None:
    reader = Reader(study)
    tables = tabulate_study(study, reader, judge_claims(study, reader)).list_all()
    assert [table.title for table in tables] == [
        "Claims", "What was objected, and what the study says", "Table 3 in miniature",
        "Table 3 in miniature: the paper", "Accuracy against tokens",
        "What each arm cost", "Which questions, by which seed", "Weights",
    ]  # fmt: skip
    table = tables[2]
    assert table.columns == ("", "accuracy", "IoU", "tokens")
    [base, trained] = table.rows
    assert base[:3] == ("base", "50.0% [34.5, 65.5]", "1.000 [0.934, 1.066]") or base[1].startswith("50.0% [3")
    assert trained[1].startswith("92.3% [")
    assert base[3].startswith("100 [")
    notes = " ".join(table.notes)
    assert "Both are small." in notes
    assert "n is 40; trained arms have 2 seeds; 3 cells lack some seed so far." in notes
    assert "Guessing reaches 50.0%." in notes
    assert "2 answers failed, and are neither right nor wrong." in notes
    assert tables[3].rows == (("base", "89.0"), ("full", "93.2"))
    [[objection, tested, shown, verdict]] = tables[1].rows
    assert (objection, tested, verdict) == ("It may be luck.", "Training raises accuracy.", "holds")
    assert shown.startswith("+42.3 [+") and ", +" in shown


def test_a_claim_shows_what_was_expected_found_and_could_have_been_seen(study: Study) -> None:
    [row] = tabulate_claims(judge_claims(study, Reader(study))).rows
    assert row[:3] == ("training", "more than 0", "+42.3")
    assert row[4] == "2 so far"
    assert row[-1] == "holds"
    low, high = (float(end) for end in row[3].split(" to "))
    assert low < 42.3 < high


def test_a_claim_shows_its_p_before_and_after_holm_and_the_smallest_difference_it_could_have_seen(
    tmp_path: Path,
) -> None:
    again = '\n[[claims]]\nname = "again"\nsays = "x"\nevaluation = "fresh"\nplus = [{ arm = "both" }]\n'
    made = make_study(tmp_path, again + 'minus = [{ arm = "start" }]\n')
    write_answers(made, "start", None, [True] * 20 + [False] * 20)
    for seed, num in ((0, 24), (1, 26), (2, 28)):
        write_answers(made, "both", seed, [True] * num + [False] * (40 - num))
    judged = judge_claims(made, Reader(made))
    found = judged[0].estimate
    assert found is not None and judged[0].p_value is not None
    row = tabulate_claims(judged).rows[0]
    assert row[4:6] == ("3", "40")
    assert row[6:8] == (f"{judged[0].p_value:.4f}", f"{2 * judged[0].p_value:.4f}")
    assert row[8] == "0.1250, 0.0312, 0.0078"
    assert row[9] == f"{100 * found.detectable:.1f}"


def test_a_claim_about_what_was_not_trained_has_no_seeds(tmp_path: Path) -> None:
    changes = ["claims.0.plus=[{arm='start'}]", "claims.0.minus=[{arm='start', mode='direct'}]"]
    made = make_study(tmp_path, changes=changes)
    write_answers(made, "start", None, [True] * 9)
    write_answers(made, "start", None, [False] * 9, mode="direct")
    [row] = tabulate_claims(judge_claims(made, Reader(made))).rows
    assert row[4:6] == ("-", "9")
    assert row[8] == "0.0039"


def test_a_study_that_has_not_begun_has_a_page_and_tables_of_dashes(tmp_path: Path) -> None:
    made = make_study(tmp_path, TABLE)
    reader = Reader(made)
    table = tabulate_cells(made.tables[0], reader)
    assert table.rows == (("base", "-", "-", "-"), ("trained", "-", "-", "-"))
    assert table.notes[-1] == "Nothing has been measured yet."
    [claim] = tabulate_claims(judge_claims(made, reader)).rows
    assert claim[-1] == "not measured yet"
    assert "0 of 7 jobs are finished" in build_page(made, "p2r study x.toml")


def test_the_head_counts_each_verdict(tmp_path: Path) -> None:
    claim = '\n[[claims]]\nname = "{}"\nsays = "It does."\nevaluation = "fresh"\nplus = [{{ arm = "both" }}]\n'
    again = claim.format("again") + claim.format("and again")
    made = make_study(tmp_path, TABLE + again)
    write_answers(made, "start", None, [True, False] * 20)
    assert "Of 3 claims: 3 are not measured yet." in build_page(made, "p2r study x.toml")
    write_answers(made, "both", 0, [True] * 36 + [False] * 4)
    assert "Of 3 claims: 3 have one seed only." in build_page(made, "p2r study x.toml")


@pytest.mark.parametrize(("num_jobs", "said"), [(1, "0 of 1 job is finished"), (2, "0 of 2 jobs are finished")])
def test_the_head_says_how_many_jobs_are_not_finished(tmp_path: Path, num_jobs: int, said: str) -> None:
    head = make_headline(make_study(tmp_path), [], "p2r", [Progress(0, None, is_finished=False)] * num_jobs)
    assert f"{said}: every number is preliminary." in head.problems


def test_the_page_tells_claims_tables_and_commands(study: Study) -> None:
    html = build_page(study, "p2r study x.toml --page-only")
    for part in (
        "Does it help?", "Of 1 claim: 1 holds.", "Training raises accuracy.", "Table 3 in miniature", "It may be luck.",
        "<code>p2r study x.toml --page-only</code>", "two looks", "p2r train nano",
        "more than 0; found +42.3 points (", "with 2 seeds so far,", " points. p ", 'href="#splits"', 'href="#repeat"',
        "Arms are trained with the seeds 0, 1, 2.",
    ):  # fmt: skip
        assert part in html, part
    tests = r"difference [\d.]+ points\. p (&lt;|= )0\.\d{4}, after Holm (&lt;|= )0\.\d{4}; McNemar&#39;s exact test, "
    assert re.search(tests + r"(&lt;)?0\.\d{4} with each seed\.", html)
    assert "every number is preliminary" in html
    assert html.count("<svg") == 2
    [pair] = html.split('<div class="with-paper">')[1:]
    assert (
        pair.index("92.3% [")
        < pair.index("<caption>Table 3 in miniature: the paper</caption>")
        < pair.index("</section>")
    )


def test_the_head_names_the_seeds_of_every_arm(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["arms.both.seeds=[0, 7]"])
    assert "<dd>0, 7</dd>" in build_page(study, "p2r study x.toml")


def test_a_claim_about_boxes_counts_boxes(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=['claims=[{name="boxes", says="More.", evaluation="fresh", measure="boxes", '
                                          'plus=[{arm="both"}], minus=[{arm="start"}]}]'])  # fmt: skip
    write_answers(study, "start", None, [True] * 9)
    for seed in (0, 1):
        write_answers(study, "both", seed, [True] * 9)
    assert re.search(r"found 0\.000 boxes \(", build_page(study, "p2r study x.toml"))


def test_the_interval_of_a_cell_ends_where_its_measure_does(tmp_path: Path) -> None:
    study = make_study(tmp_path, TABLE)
    write_answers(study, "start", None, [True] * 9, boxes=dict.fromkeys(range(9), (AWAY,)))
    write_answers(study, "both", 0, [False] * 9, num_tokens=250)
    [base, trained] = tabulate_cells(study.tables[0], Reader(study)).rows
    assert base[1].startswith("100.0% [") and base[1].endswith(", 100.0]")
    assert base[2].startswith("0.000 [0.000, 0.")
    assert trained[1].startswith("0.0% [0.0, ")
    assert trained[3] == "250 [250, 250]"


def test_sizes_that_differ_are_told_from_the_smallest_to_the_largest(tmp_path: Path) -> None:
    more = """
[evaluations.other]
benchmark = "needles"
num = 7
seed = 9000

[[tables]]
title = "Both"
rows = [{ name = "fresh", evaluation = "fresh" }, { name = "other", evaluation = "other" }]
columns = [{ name = "trained", arm = "both" }]
"""
    study = make_study(tmp_path, more)
    for seed in (0, 1, 2):
        write_answers(study, "both", seed, [True, False, None] * 3)
    write_answers(study, "both", 1, [None, True, False, True, True], evaluation="other")
    notes = tabulate_cells(study.tables[0], Reader(study)).notes
    assert "n is 5 to 9; trained arms have 1 to 3 seeds; 1 cell lacks some seed so far." in notes
    assert "10 answers failed, and are neither right nor wrong." in notes


@pytest.mark.parametrize(
    ("chances", "shown"), [((0.25, 0.25), "25.0%"), ((0.5, 0.083, 0.25), "8.3% to 50.0%"), ((0.2501, 0.25), "25.0%")]
)
def test_chance_is_told_from_the_lowest_to_the_highest(chances: tuple[float, ...], shown: str) -> None:
    assert describe_chance(chances) == f"Guessing reaches {shown}."


def test_the_exact_tests_of_seeds_are_told_one_by_one_where_they_differ(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    write_answers(study, "start", None, [True, False] * 20)
    for seed, num in ((0, 36), (1, 24)):
        write_answers(study, "both", seed, [True] * num + [False] * (40 - num))
    assert re.search(r"exact test, seed 0: (&lt;)?0\.\d{4}, seed 1: 0\.\d{4}\.", build_page(study, "p2r study x.toml"))


def find_width(study: Study) -> float:
    """The width of the first claim's interval, in points."""
    found = judge_claims(study, Reader(study))[0].estimate
    assert found is not None
    return 100 * (found.interval.high - found.interval.low)


def test_an_objection_is_told_once_beside_all_of_its_claims(tmp_path: Path) -> None:
    again = '\n[[claims]]\nname = "again"\nsays = "It does."\nevaluation = "fresh"\nplus = [{ arm = "both" }]\n'
    study = make_study(tmp_path, TABLE.replace('claims = ["training"]', 'claims = ["training", "again"]') + again)
    table = tabulate_objections(study, judge_claims(study, Reader(study)))
    assert [row[0] for row in table.rows] == ["It may be luck.", ""]
    assert table.rows[1][1:] == ("It does.", "-", "not measured yet")


def test_charts_say_what_their_arms_are(tmp_path: Path) -> None:
    study = make_study(tmp_path, TABLE, changes=["arms.both.says=both phases"])
    job = list_trainings(study)[0]
    write_training(job)
    probe = {"phase": job.recipe.phases()[0].name, "step": 0, "hit_rate": 0.5}
    (job.folder / PROBES_FILE).write_text(json.dumps(probe) + "\n", encoding="utf-8")
    assert "Faint: each seed. both: both phases." in build_page(study, "p2r study x.toml")


def test_a_claim_of_no_difference_is_drawn_with_its_margin(tmp_path: Path) -> None:
    study = make_study(tmp_path, changes=["claims.0.expects=alike", "claims.0.margin=0.03"])
    write_answers(study, "start", None, [True, False] * 20)
    for seed in (0, 1):
        write_answers(study, "both", seed, [True, False] * 20)
    html = build_page(study, "p2r study x.toml")
    assert "training (within 3.0)" in html
    [(low, high)] = re.findall(r'class="margin" d="M([\d.]+) [\d.]+H([\d.]+)"', html)
    [zero] = re.findall(r'class="between" d="M([\d.]+) ', html)
    [(left, right)] = re.findall(r'class="whisker" d="M([\d.]+) [\d.]+H([\d.]+)M', html)
    assert float(low) < float(zero) < float(high)
    assert float(high) - float(low) == pytest.approx((float(right) - float(left)) * 6 / find_width(study), rel=0.05)


def test_the_plan_counts_steps_rollouts_and_tokens_of_each_arm(study: Study) -> None:
    arms, questions = tabulate_plan(study)
    assert arms.rows[0][:3] == ("both", "0, 1, 2", "0 of 3")
    phases = study.recipe_of("both", 0, Path("x"), None).phases()
    rollouts = sum((phase.steps or 0) * phase.prompts_per_step * phase.rollout.group_size for phase in phases)
    tokens = sum(
        (phase.steps or 0) * phase.prompts_per_step * phase.rollout.group_size * phase.max_response_tokens
        for phase in phases
    )
    assert arms.rows[0][3:6] == ("70", f"{rollouts:,}", f"{tokens:,}")
    assert arms.rows[1][4] == f"{3 * rollouts:,}"
    assert ("fresh/start", "p2r", "40", "yes", "-", "-") in questions.rows
    assert ("fresh/both/seed-2", "p2r", "40", "no", "-", "-") in questions.rows


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [(0.123, "accuracy", "+12.3"), (-0.0001, "accuracy", "0.0"), (-0.02, "hit rate", "-2.0"), (0.1, "IoU", "+0.100"),
     (-31.4, "tokens", "-31"), (0.5, "boxes", "+0.500"), (0.1, "reading", "+10.0"), (0.1, "in crops", "+10.0")],
)  # fmt: skip
def test_differences_are_shown_in_their_own_unit(value: float, measure: str, text: str) -> None:
    assert show_difference(value, measure) == text  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("expects", "margin", "text"),
    [("more", 0.0, "more than 0"), ("more", 0.03, "more than +3.0"), ("less", 0.0, "less than 0"),
     ("less", 0.03, "less than -3.0"), ("alike", 0.03, "within 3.0")],
)  # fmt: skip
def test_what_a_claim_expects_is_told_with_its_margin(expects: str, margin: float, text: str) -> None:
    said = {"name": "x", "says": "x", "evaluation": "fresh", "plus": [{"arm": "both"}]}
    assert show_expectation(StudyClaim.model_validate({**said, "expects": expects, "margin": margin})) == text
