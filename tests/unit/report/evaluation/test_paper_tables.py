"""Several systems laid out as the paper's tables, with the published figures beside."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.benchmarks.base import Origin
from p2r.dialogue import Budget
from p2r.evaluation.scoring import ScoredRun
from p2r.evaluation.tables import Table, write_latex, write_markdown
from p2r.modes import Mode
from p2r.report.evaluation.paper_tables import lay_out
from p2r.report.evaluation.systems import find_systems
from p2r.statistics import wilson
from tests.fakes.systems import ask

GOOD, POOR = "A" * 40, "A" * 20 + "B" * 20


def tabulate(*runs: ScoredRun) -> list[Table]:
    return lay_out(find_systems(runs))


def find(table: Table, name: str) -> tuple[int, tuple[str, ...]]:
    [found] = [(k, row) for k, row in enumerate(table.rows) if row[0].split("\n")[0].split(" [")[0] == name]
    return found


def list_notes(table: Table, row: tuple[str, ...]) -> list[str]:
    """The notes that the brackets in a row's name lead to."""
    numbers = row[0].partition("[")[2].partition("]")[0]
    notes = dict(note.split("] ", 1) for note in table.notes if note.startswith("["))
    return [notes[f"[{number}"] for number in numbers.split(", ")] if numbers else []


def test_table_1_has_the_papers_columns_groups_and_figures() -> None:
    [table] = tabulate(ask("vstar", GOOD), ask("hrbench_4k", GOOD), ask("hrbench_8k", POOR))
    assert table.columns == (
        "system",
        *(["attribute", "position", "overall"]),
        *(["single", "cross", "overall"] * 2),
        "mean",
    )
    assert table.above == (("V*", 3), ("HR-Bench 4K", 3), ("HR-Bench 8K", 3), ("", 1))
    assert list(table.headings.values()) == [
        "General models",
        "Visual search",
        "Thinking with images",
        "Perceive-to-Reason",
    ]
    rows = [row[0].split("\n")[0] for row in table.rows]
    groups = {name: rows[start] for start, name in table.headings.items()}
    assert groups == {
        "General models": "GPT-4o",
        "Visual search": "DyFo-7B",
        "Thinking with images": "DeepEyes-7B",
        "Perceive-to-Reason": "P2R-2B",
    }
    row, cells = find(table, "ZoomEye-7B")
    assert cells == (
        "ZoomEye-7B\nTable 1 of the paper",
        "93.9",
        "85.5",
        "90.6",
        *("84.3", "55.0", "69.6", "88.5", "50.0", "69.3"),
        "76.5",
    )
    assert set(table.kinds[row]) == {"published"}
    assert find(table, "GPT-4o")[1][1:3] == ("-", "-")
    assert rows[-1].startswith("P2R-4B, p2r")
    assert table.rows[0] == ("chance\nguessing, here", *["50.0"] * 9, "-") and set(table.kinds[0]) == {""}
    [paper, readme] = [cells for cells in table.rows if cells[0].startswith("DeepEyes-7B")]
    assert (paper[3].split()[0], readme[0], readme[3].split()[0]) == ("90.1", "DeepEyes-7B\nREADME of Mini-o3", "83.3")


def test_a_measured_cell_has_its_score_interval_and_n() -> None:
    [table] = tabulate(ask("vstar", POOR + "!"))
    cells = find(table, "P2R-4B, p2r")[1]
    bounds = wilson(20, 40)
    assert cells[3] == f"50.0\n{100 * bounds.low:.1f} - {100 * bounds.high:.1f}\nn 40"
    assert cells[0].endswith("\nmeasured here") and len(cells) == 4
    assert list_notes(table, cells) == ["V*: 40 of 191 questions.", "V*: 1 reply failed, and does not count."]


def test_questions_of_one_category_stand_in_its_column() -> None:
    [table] = tabulate(ask("vstar", "A"))
    assert table.rows[0][1:] == ("50.0", "-", "50.0")
    cells = find(table, "P2R-4B, p2r")[1]
    assert cells[1] == cells[3] == "100.0\n20.7 - 100.0\nn 1" and cells[2] == "-"
    assert list_notes(table, cells) == ["-: no judged question of V* position.", "V*: 1 of 191 questions."][::-1]


def test_table_2_has_perception_and_reasoning() -> None:
    [table] = tabulate(ask("mme_realworld_lite", GOOD))
    assert table.columns == ("system", "Overall", "OCR", "RS", "DT", "MO", "AD", "OCR", "DT", "MO", "AD")
    assert table.above == (("", 1), ("Perception", 5), ("Reasoning", 4))
    cells = find(table, "P2R-4B, p2r")[1]
    assert [cell.split("\n")[0] for cell in cells[1:]] == ["100.0", *"---", "100.0", *"---", "100.0", "-"]
    assert "-: no judged question of MME-RealWorld-Lite Perception OCR, MME-RealWorld-Lite Perception RS" in " ".join(
        list_notes(table, cells)
    )
    assert find(table, "P2R-8B")[1][1:4] == ("57.4", "92.4", "58.7")


def test_only_benchmarks_that_were_run_have_columns() -> None:
    [table] = tabulate(ask("hrbench_8k", GOOD))
    assert table.above == (("HR-Bench 8K", 3),) and table.columns[-1] == "overall"
    assert all(any(cell != "-" for cell in row[1:]) for row in table.rows)


def test_the_best_is_bold_where_the_test_for_pairs_supports_it() -> None:
    [table] = tabulate(ask("vstar", GOOD), ask("vstar", POOR, mode="direct"), ask("vstar", "B" + POOR[1:], mode="zoom"))
    row, _ = find(table, "P2R-4B, p2r")
    assert table.kinds[row] == ("", "", "best", "best")  # the first half differs by no more than one question
    assert sum(kind == "best" for kinds in table.kinds for kind in kinds) == 2
    assert "Published values are not tested." in " ".join(table.notes)


@pytest.mark.parametrize(
    "others",
    [
        [],
        [ask("vstar", "B" + GOOD[1:], mode="direct")],
        [ask("vstar", POOR, mode="direct"), ask("vstar", GOOD, mode="zoom")],
        [ask("vstar", POOR, mode="direct", benchmark_fingerprint="other", num=20)],
    ],
    ids=["alone", "one question", "as good", "other questions"],
)
def test_nothing_is_bold_without_evidence(others: list[ScoredRun]) -> None:
    [table] = tabulate(ask("vstar", GOOD), *others)
    assert not any("best" in kinds for kinds in table.kinds)


def test_the_test_keeps_rotations_together() -> None:
    """Six questions of four rotations are 24 replies: with 12 more right in three questions, p is 0.25."""
    runs = [ask("hrbench_4k", "A" * 24), ask("hrbench_4k", "A" * 12 + "B" * 12, mode="direct")]
    [table] = tabulate(*runs)
    assert not any("best" in kinds for kinds in table.kinds)
    [table] = tabulate(ask("hrbench_4k", "A" * 64), ask("hrbench_4k", "A" * 16 + "B" * 48, mode="direct"))
    assert any("best" in kinds for kinds in table.kinds)


def test_replies_to_the_same_question_are_one_question() -> None:
    repeated = ask("vstar", "AAAB" * 20, num=20, samples=4, temperature=1.0)
    [table] = tabulate(repeated, ask("vstar", "B" * 20, mode="direct"))
    row, cells = find(table, "P2R-4B, p2r")
    assert cells[3].split("\n")[::2] == ["75.0", "n 20 x 4"]
    assert "best" in table.kinds[row]
    assert "Avg@4: the mean of 4 draws at temperature 1 of each question." in list_notes(table, cells)
    [table] = tabulate(repeated, ask("vstar", "A" * 15 + "B" * 5, mode="direct"))
    assert table.kinds[find(table, "P2R-4B, direct")[0]] == ("", "best", "", "")  # 10 of 10 against 3/4 each
    assert not any(table.kinds[find(table, "P2R-4B, p2r")[0]])


def test_the_mean_needs_all_three_and_joins_their_intervals() -> None:
    [table] = tabulate(
        ask("vstar", GOOD), ask("hrbench_4k", GOOD), ask("hrbench_8k", POOR), ask("vstar", POOR, mode="zoom")
    )
    value, bounds = find(table, "P2R-4B, p2r")[1][-1].split("\n")
    low, high = map(float, bounds.split(" - "))
    assert value == "83.3" and 60 < low < 80 and 87 < high < 95
    assert find(table, "P2R-4B, zoom")[1][-1] == "-"
    assert find(table, "o3")[1][-1] == "-" and find(table, "P2R-8B")[1][-1] == "85.9"


def test_notes_say_how_a_protocol_differs() -> None:
    budget = Budget(factor=28, min_pixels=784, max_pixels=1_000_000)
    runs = [
        ask(
            "vstar",
            GOOD,
            mode="tools:deepeyes:released",
            prompts="p2r's words",
            origin=Origin(spec="vstar:/data/vstar", seed=3, budget=budget),
        ),
        ask(
            "vstar",
            GOOD,
            mode="shuffled",
            judge_model="judge",
            prompts="paper",
            origin=Origin(spec="/data/v.tsv", split="mini", budget=budget),
        ),
        ask("hrbench_4k", GOOD, temperature=0.7, shuffles=2),
    ]
    [table] = tabulate(*runs)
    released = " ".join(list_notes(table, find(table, "P2R-4B, tools:deepeyes:released")[1]))
    for part in (
        "as released: the slips of its authors' evaluation are kept.",
        "asked in p2r's words.",
        "images of at most 12,845,056 pixels.",
        "-: not run on HR-Bench 4K.",
        "V*: 40 of 191 questions.",
        "V*: the right option always stands at A.",
    ):
        assert part in released
    shuffled = " ".join(list_notes(table, find(table, "P2R-4B, shuffled")[1]))
    for part in (
        "asked in the wording 'paper'.",
        "images of at most 1,000,000 pixels.",
        "the options in another order than the data's.",
        "free answers judged by judge.",
        "V*: the split 'mini'.",
    ):
        assert part in shuffled
    drawn = " ".join(list_notes(table, find(table, "P2R-4B, p2r")[1]))
    assert "Avg@2: the mean of 2 orders of the options of each question." in drawn


def test_a_failed_and_an_empty_run_say_why_their_cells_are_empty() -> None:
    [table] = tabulate(ask("vstar", "!!"), ask("vstar", "", mode="direct"), ask("vstar", GOOD, mode="zoom"))
    failed, empty = find(table, "P2R-4B, p2r")[1], find(table, "P2R-4B, direct")[1]
    assert failed[1:] == empty[1:] == ("-", "-", "-")
    assert list_notes(table, failed) == ["-: nothing was judged on V*: all because the server is gone."]
    assert list_notes(table, empty) == ["-: nothing was asked on V* yet."]


def test_other_benchmarks_have_a_table_where_there_is_something_beside() -> None:
    assert tabulate(ask("needles", GOOD)) == []
    assert tabulate(ask("folder", GOOD), ask("needles", GOOD)) == []
    [table] = tabulate(ask("needles", GOOD), ask("treebench", POOR))
    assert (table.columns, table.above) == (("system", "needles", "treebench"), ())
    assert find(table, "TreeVGR-7B")[1][1:] == ("-", "49.4")
    [table] = tabulate(ask("zoombench", POOR))
    assert find(table, "Qwen2.5-VL-7B")[1] == ("Qwen2.5-VL-7B\nREADME of Zooming-without-Zooming", "42.5 [1]")


def test_markdown_and_latex_mark_what_is_best_and_what_is_published() -> None:
    tables = tabulate(ask("vstar", GOOD), ask("vstar", POOR, mode="direct"))
    markdown, latex = write_markdown(tables), write_latex(tables)
    assert "| system | V* attribute | V* position | V* overall |" in markdown
    assert "| **Visual search** |  |  |  |" in markdown
    assert "| *DyFo-7B*<br>Table 1 of the paper | *80.0* | *82.9* | *81.2* |" in markdown
    assert "| **100.0**<br>91.2 - 100.0<br>n 40 |" in markdown
    assert "| - | *66.0* |" in markdown
    assert " & \\multicolumn{3}{c}{V*} \\\\\n\\cmidrule(lr){2-4}\nsystem & attribute & position & overall \\\\" in latex
    assert "\\midrule\n\\multicolumn{4}{l}{\\textbf{Visual search}} \\\\" in latex
    assert "\\shortstack[l]{\\textit{DyFo-7B}\\\\{\\tiny Table 1 of the paper}} & \\textit{80.0}" in latex
    assert "\\shortstack[r]{\\textbf{100.0}\\\\{\\tiny 91.2 -- 100.0}\\\\{\\tiny n 40}}" in latex
    assert latex.count("\\begin{table*}") == latex.count("\\end{table*}") == 1


def test_the_overall_column_is_not_corrected_for_the_categories() -> None:
    [table] = tabulate(ask("vstar", GOOD), ask("vstar", "B" * 6 + "A" * 34, mode="direct"))
    assert table.kinds[find(table, "P2R-4B, p2r")[0]] == ("", "", "", "best")  # p is 0.031, of two categories 0.063


def test_the_highest_score_is_not_bold_where_it_is_worse_on_the_questions_of_both() -> None:
    [table] = tabulate(
        ask("vstar", "B" * 8 + "A" * 10 + "!" * 22), ask("vstar", "A" * 8 + "!" * 10 + "B" * 22, mode="direct")
    )
    row, cells = find(table, "P2R-4B, p2r")
    assert cells[3].startswith("55.6\n") and not any(table.kinds[row])


def test_other_data_are_named_and_not_compared() -> None:
    other = ask("vstar", POOR, mode="direct", benchmark_fingerprint="other", num=20)
    [table] = tabulate(ask("vstar", GOOD), other)
    notes = list_notes(table, find(table, "P2R-4B, direct")[1])
    assert "V*: other data than the first run's, so the two are not compared." in notes


def test_reasonseg_is_among_the_others_with_the_papers_table_4() -> None:
    def look(folder: str, mode: Mode) -> ScoredRun:
        return ask("reasonseg", "AA", mode=mode, origin=Origin(spec=f"reasonseg:{folder}"), scored_by="box")

    [table] = tabulate(look("ReasonSeg/val", "p2r"), look("mine", "p2r:vlm-r1"))
    assert table.columns == ("system", "reasonseg")
    assert find(table, "P2R-4B, val")[1] == ("P2R-4B, val\nTable 4 of the paper", "65.9 [1]")
    assert list_notes(table, find(table, "P2R-4B, p2r")[1]) == [
        "-: nothing was judged on reasonseg.",
        "reasonseg: Acc@0.5 of the first box, on val.",
    ]
    assert "reasonseg: Acc@0.5 of the first box." in list_notes(table, find(table, "P2R-4B, p2r:vlm-r1")[1])


def test_whose_words_and_pixels_boxes_were_asked_with() -> None:
    origin = Origin(spec="x:y", budget=Budget(factor=28, max_pixels=1_000_000))
    words = "release; for boxes p2r's words"
    [table] = tabulate(
        ask("vstar", GOOD, mode="p2r:vlm-r1", origin=origin, prompts=words),
        ask("vstar", GOOD, mode="p2r:visual-rft", origin=origin, prompts=words, max_pixels=1_000_000),
    )
    theirs, stated = (list_notes(table, find(table, f"P2R-4B, {mode}")[1]) for mode in ("p2r:vlm-r1", "p2r:visual-rft"))
    assert {"asked for boxes in p2r's words.", "images of at most 12,845,056 pixels."} <= set(theirs)
    assert "images of at most 1,000,000 pixels." in stated


def test_runs_that_only_a_name_joins_say_what_differs() -> None:
    runs = [ask("vstar", GOOD, folder="a"), ask("hrbench_4k", GOOD, folder="b", model="other", max_pixels=512)]
    [table] = lay_out(find_systems(runs, {Path("a"): "Ours", Path("b"): "Ours"}))
    assert "its runs differ in model, max pixels; these notes are about that on V*." in list_notes(
        table, find(table, "Ours")[1]
    )


def test_runs_of_unlike_numbers_of_replies_are_tested_by_their_means() -> None:
    runs = [ask("vstar", "AB" * 40, num=40, samples=2), ask("vstar", "ABB" * 40, num=40, mode="direct", samples=3)]
    [table] = tabulate(*runs)
    assert table.kinds[find(table, "P2R-4B, p2r")[0]][3] == "best"
