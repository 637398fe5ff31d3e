"""The paper's values, and what is wrong with them."""

from __future__ import annotations

from p2r.benchmarks.mme_realworld import LITE_CATEGORIES
from p2r.benchmarks.reasonseg import SPLITS
from p2r.evaluation.aggregate import MME_COLUMNS
from p2r.report.evaluation.published import (
    NUM_SAMPLES,
    PublishedRow,
    choose_scorer,
    explain_slips,
    read_published,
    tabulate_beside_paper,
)
from tests.fakes.reports import make_scored

VSTAR_AND_MORE = ("vstar", "hrbench_4k", "hrbench_8k", "mme_realworld_lite")
VSTAR = {"overall": 191, "direct_attributes": 115, "relative_position": 76}
MME = {
    f"{task} {short}": LITE_CATEGORIES.get(f"{task}/{full}")
    for task in ("Perception", "Reasoning")
    for short, full in MME_COLUMNS.items()
}


def find_slips(row: PublishedRow) -> set[str]:
    """Columns that arithmetic alone shows to be wrong, given the benchmark's sizes and one printed digit."""
    found: set[str] = set()
    for column, value in row.values.items():
        if row.benchmark == "vstar":
            num = VSTAR[column]
        elif row.benchmark.startswith("hrbench"):
            num = 800 if column == "overall" else 400
        elif row.benchmark == "reasonseg":
            num = SPLITS[row.method.split(", ")[1]]
        else:
            num = MME.get(column) or 1919
        if min(abs(value - 100 * k / num) for k in range(num + 1)) > 0.0501:
            found.add(column)
    values = row.values
    has_halves = row.benchmark.startswith("hrbench") and len(values) == 3
    if has_halves and abs((values["single"] + values["cross"]) / 2 - values["overall"]) > 0.151:
        found.add("overall")
    if row.benchmark == "mme_realworld_lite":
        right = sum(round(values[name] * num / 100) for name, num in MME.items() if num and name in values)
        if abs(100 * right / 1919 - values["Overall"]) > 0.0501:
            found.add("Overall")
    return found


def test_every_slip_in_the_paper_is_marked_and_nothing_else_is() -> None:
    for row in read_published().rows:
        if not row.is_from_paper:
            continue
        shown = find_slips(row)
        if row.method == "Qwen3-VL-Instruct-8B" and row.benchmark == "hrbench_8k":
            shown = {"cross"}  # either could be wrong; 70.1 stands in both columns
        if row.method == "DeepEyes-7B" and row.benchmark == "vstar":
            shown = set(VSTAR)  # not by arithmetic: the right option always stood at A
        assert set(row.slips) == shown, row


def test_what_is_no_single_reply_by_rule_says_so() -> None:
    others = {(row.table, row.method, row.benchmark): row for row in read_published().rows if not row.is_from_paper}
    assert len(others) == 3 * 7 + 2
    deepeyes = others["README of Mini-o3", "DeepEyes-7B", "vstar"]
    assert deepeyes.values == {"overall": 83.3} and "Avg@32" in deepeyes.slips["overall"]
    assert "GPT-4o" in others["README of Mini-o3", "Mini-o3-7B", "visualprobe_hard"].slips["overall"]
    assert {id for id, row in others.items() if not row.slips} == {("repository of TreeVGR", "TreeVGR-7B", "treebench")}


def test_the_paper_has_all_its_tables() -> None:
    rows = [row for row in read_published().rows if row.is_from_paper]
    assert {row.table for row in rows} == {f"Table {k}" for k in range(1, 6)}
    assert {row.benchmark for row in rows} == {*VSTAR_AND_MORE, "reasonseg"}
    assert [NUM_SAMPLES[name] for name in VSTAR_AND_MORE] == [191, 800, 800, 1919]
    [best] = [row for row in rows if (row.method, row.benchmark, row.table) == ("P2R-4B", "vstar", "Table 1")]
    assert best.values == {"overall": 93.2, "direct_attributes": 92.2, "relative_position": 94.7}


def test_our_runs_stand_above_the_papers_lines_with_where_each_is_from() -> None:
    table = tabulate_beside_paper([make_scored("vstar")], ["mine"])
    assert table is not None
    assert table.columns == ("", "from", "n", "overall", "95% interval", "direct_attributes", "relative_position")
    assert table.rows[0][:4] == ("mine", "here", "2", "50.0%")
    paper = next(row for row in table.rows if row[:2] == ("P2R-4B", "Table 1"))
    assert paper[2:] == ("191", "93.2%", "88.7 - 96.0%", "92.2%", "94.7%")
    [first_letter] = [note for note in table.notes if "Table 1, DeepEyes-7B" in note]
    assert first_letter.startswith(
        "* Table 1, DeepEyes-7B, overall, direct_attributes, relative_position: measured with the right option always"
    )
    deepeyes, again = [row for row in table.rows if row[0] == "DeepEyes-7B"]
    assert (deepeyes[3], *deepeyes[5:]) == ("90.1%*", "91.3%*", "88.2%*")
    assert again == ("DeepEyes-7B", "README of Mini-o3", "191", "83.3%*", "-", "-", "-")


def test_another_systems_dialect_is_read_by_the_default_scorer() -> None:
    assert [choose_scorer(make_scored("vstar", mode)) for mode in ("p2r", "tools", "tools:pixel-reasoner")] == [
        "release",
        "release",
        "robust",
    ]
    assert choose_scorer(make_scored("vstar", "tools:deepeyes:released")) == "robust"


def test_columns_with_the_same_reason_share_a_note() -> None:
    slips = {"overall": "too high", "single": "too low", "cross": "too high"}
    row = PublishedRow(table="Table 1", method="It", benchmark="hrbench_4k", values={}, slips=slips)
    assert explain_slips(row) == ["* Table 1, It, overall, cross: too high.", "* Table 1, It, single: too low."]


def test_no_interval_is_claimed_where_rotations_are_not_independent() -> None:
    table = tabulate_beside_paper([make_scored("hrbench_4k")], ["mine"])
    assert table is not None
    row = next(row for row in table.rows if row[:2] == ("P2R-8B", "Table 1"))
    assert row[2:5] == ("800", "81.5%*", "-")


def test_of_other_benchmarks_the_paper_says_nothing() -> None:
    assert tabulate_beside_paper([make_scored("needles")], ["mine"]) is None
