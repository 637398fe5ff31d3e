"""Stored replies become figures: scorers side by side, the benchmark's own aggregation, what went wrong apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from p2r.cli.app import app
from p2r.errors import StorageError
from p2r.evaluation.compare import compare_runs, tabulate_contrasts, tabulate_runs
from p2r.evaluation.cost import measure_cost
from p2r.evaluation.counts import count_troubles
from p2r.evaluation.scorecard import find_disagreements, make_scorecard, tabulate_accuracy
from p2r.evaluation.scoring import ScoredRun, interval_of, score_run
from p2r.evaluation.tables import Table, write_markdown
from p2r.images.load import MemoryImage
from p2r.runs.evaluation import RunSettings, read_run, write_facts
from p2r.runs.merge import merge_runs
from p2r.runs.store import TraceStore
from p2r.statistics import wilson
from p2r.types import (
    Answer,
    Box,
    BoxParse,
    Completion,
    EvidenceRecord,
    Failure,
    Perception,
    Sample,
    ToolUse,
    Trace,
    Usage,
    Verdict,
)

IMAGE = MemoryImage(Image.new("RGB", (64, 64)), name="image")
SETTINGS = {"benchmark": "folder", "mode": "p2r", "model": "m"}
GOLD = Box(x1=100, y1=100, x2=300, y2=300)
FAR = Box(x1=800, y1=800, x2=900, y2=900)


def make_sample(id: str, *, cluster: str = "", cycle: int | None = None, category: str = "x") -> Sample:
    return Sample(
        id=id,
        image=IMAGE,
        question=f"What is {id}?",
        options=("a star", "a fish", "a sun", "a moon"),
        answer_form="choice",
        target="B",
        gold_boxes=(GOLD,),
        chance=0.25,
        cluster=cluster,
        cycle=cycle,
        category=category,
    )


def make_trace(
    sample: Sample,
    reply: str,
    *,
    boxes: tuple[Box, ...] = (GOLD,),
    cut: bool = False,
    looking: str = "x",
    parse: BoxParse | None = None,
) -> Trace:
    said = Completion(text=reply, finish_reason="length" if cut else "stop", model="m")
    looked = Completion(text=looking, finish_reason="stop", model="m")
    return Trace(
        sample_id=sample.id,
        image="image",
        question=sample.question,
        options=sample.options,
        answer_form=sample.answer_form,
        target=sample.target,
        category=sample.category,
        perception=Perception(source="model:m", boxes=boxes, completion=looked, parse=parse or BoxParse(step="strict")),
        evidence=EvidenceRecord(image_wh=(64, 64), annotated=bool(boxes)),
        reasoning=said,
        answer=Answer(text="ignored"),
    )


def store(folder: Path, rows: list[tuple[Sample, Trace]], **changed: str) -> ScoredRun:
    with TraceStore(folder, RunSettings.model_validate({**SETTINGS, **changed})) as kept:
        write_facts(folder, [sample for sample, _ in rows])
        for _, trace in rows:
            kept.append(trace)
    return score_run(read_run(folder))


def answer_all(folder: Path, replies: dict[str, str], **changed: str) -> ScoredRun:
    samples = {id: make_sample(id) for id in replies}
    return store(folder, [(samples[id], make_trace(samples[id], reply)) for id, reply in replies.items()], **changed)


def find_row(table: Table, name: str) -> dict[str, str]:
    row = next(row for row in table.rows if row[0] == name)
    return dict(zip(table.columns, row, strict=True))


def test_scorers_read_the_same_replies_side_by_side(tmp_path: Path) -> None:
    run = answer_all(
        tmp_path,
        {"a": "<answer>B</answer>", "b": "The answer is B.", "c": "<ANSWER>B</ANSWER>", "d": "<answer>C</answer>"},
    )
    table = make_scorecard(run)[0]
    assert find_row(table, "overall")["robust"] == "75.0%"
    assert find_row(table, "overall")["release"] == "25.0%"
    assert find_row(table, "overall")["chance"] == "25.0%"
    assert find_row(table, "overall")["differ"] == "2"
    assert find_disagreements(run) == {"b": {"robust": "B", "release": None}, "c": {"robust": "B", "release": None}}


def test_the_release_reads_the_whole_reply_in_modes_without_a_tag(tmp_path: Path) -> None:
    run = answer_all(tmp_path, {"a": "The answer is B."}, mode="direct")
    assert run.rows[0].verdicts["release"].correct


def test_mme_has_a_third_scorer_and_the_columns_of_the_paper(tmp_path: Path) -> None:
    samples = [
        make_sample("a", category="Perception/Remote Sensing"),
        make_sample("b", category="Reasoning/Monitoring"),
    ]
    rows = [(samples[0], make_trace(samples[0], "<answer>B</answer>")), (samples[1], make_trace(samples[1], "b"))]
    run = store(tmp_path, rows, benchmark="mme_realworld_lite")
    assert run.scorers == ("robust", "release", "mme_official")
    assert [row[0] for row in make_scorecard(run)[0].rows] == [
        "Overall",
        "Perception RS",
        "Reasoning MO",
        "Perception",
        "Reasoning",
    ]


def test_other_systems_read_the_same_replies_in_a_table_of_their_own(tmp_path: Path) -> None:
    samples = [make_sample("a", category="direct_attributes"), make_sample("b", category="relative_position")]
    rows = [(samples[0], make_trace(samples[0], "<answer>B</answer>")), (samples[1], make_trace(samples[1], "b"))]
    run = store(tmp_path, rows, benchmark="vstar")
    assert (run.scorers, run.peers) == (("robust", "release"), ("deepeyes", "lmms_eval", "mini_o3"))
    (table,) = [table for table in make_scorecard(run) if "other systems" in table.title]
    assert table.columns[3::2] == run.peers
    assert [row[3::2] for row in table.rows] == [
        ("50.0%", "50.0%", "50.0%"),
        ("100.0%", "0.0%", "100.0%"),
        ("0.0%", "100.0%", "0.0%"),
    ]
    assert find_disagreements(run) == {"b": {"robust": "B", "release": None}}  # theirs do not count
    assert make_scorecard(run)[0].rows[0][-1] == "1"
    compared = CliRunner().invoke(app, ["compare", str(tmp_path), str(tmp_path), "--scorer", "lmms_eval"])
    assert compared.exit_code == 0 and "50.0%" in compared.output, compared.output
    refused = CliRunner().invoke(app, ["compare", str(tmp_path), str(tmp_path), "--scorer", "zoomeye"])
    assert "robust or release or deepeyes or lmms_eval or mini_o3" in refused.output


@pytest.mark.parametrize(
    ("benchmark", "peers"),
    [
        ("hrbench_8k", ("zoomeye", "mini_o3")),
        ("mme_realworld", ("vlmevalkit", "mini_o3")),
        ("treebench", ()),
        ("needles", ()),
    ],
)
def test_a_benchmark_is_read_by_the_systems_that_report_it(
    tmp_path: Path, benchmark: str, peers: tuple[str, ...]
) -> None:
    sample = make_sample("a", cluster="0", cycle=0)
    run = store(tmp_path, [(sample, make_trace(sample, "<answer>B</answer>"))], benchmark=benchmark)
    assert run.peers == peers
    assert sum("other systems" in table.title for table in make_scorecard(run)) == bool(peers)


def test_rotations_give_the_official_score_the_strict_one_and_wider_intervals(tmp_path: Path) -> None:
    rows: list[tuple[Sample, Trace]] = []
    for question in range(20):
        for cycle in range(4):
            sample = make_sample(f"{question}.{cycle}", cluster=str(question), cycle=cycle)
            letter = "B" if question % 2 or (question == 0 and cycle) else "C"
            rows.append((sample, make_trace(sample, f"<answer>{letter}</answer>")))
    run = store(tmp_path, rows, benchmark="hrbench_4k")
    accuracy, rotations, *_ = make_scorecard(run)
    assert find_row(accuracy, "overall")["robust"] == "53.8%"
    strict = find_row(rotations, "overall")
    assert (strict["n"], strict["all"], strict["cycle 0"], strict["spread"]) == ("20", "50.0%", "50.0%", "5.0%")
    interval, naive = interval_of(run.rows, "robust"), wilson(43, 80)
    assert interval.high - interval.low > 1.5 * (naive.high - naive.low)


def test_clusters_that_are_all_right_are_not_certain(tmp_path: Path) -> None:
    samples = [make_sample(f"{q}.{c}", cluster=str(q), cycle=c) for q in range(5) for c in range(4)]
    run = store(tmp_path, [(s, make_trace(s, "<answer>B</answer>")) for s in samples], benchmark="hrbench_4k")
    assert 0.35 < interval_of(run.rows, "robust").low < wilson(5, 5).low


def test_troubles_are_counted_apart(tmp_path: Path) -> None:
    replies = {
        "fine": "<answer>B</answer>",
        "untagged": "The answer is B.",
        "empty": "",
        "refusal": "<think>hm</think>I cannot determine that from the image.",
        "ambiguous": "<answer>it is either the star or the fish</answer>",
        "none": "<answer>G</answer>",
    }
    rows = [(make_sample(id), make_trace(make_sample(id), reply)) for id, reply in replies.items()]
    cut = make_sample("cut")
    rows.append((cut, make_trace(cut, "<think>Let me see", cut=True)))
    lost = make_sample("lost")
    failed = BoxParse(step="none", reason="no list")
    rows.append((lost, make_trace(lost, "<answer>B</answer>", boxes=(), parse=failed)))
    wide = make_sample("wide")
    rows.append((wide, make_trace(wide, "<answer>B</answer>", parse=BoxParse(step="strict", num_clipped=1))))
    broken = make_sample("broken")
    failure = Failure(stage="reason", kind="EndpointError", message="gone")
    rows.append((broken, Trace(sample_id="broken", image="image", question=broken.question, failure=failure)))
    counts = count_troubles(store(tmp_path, rows))
    assert counts == {
        "error": 1,
        "empty": 1,
        "truncated": 1,
        "box reply truncated": 0,
        "no tag": 4,
        "refusal": 1,
        "ambiguous": 1,
        "not an option": 1,
        "box parse failure": 1,
        "other frame": 0,
        "clipped box": 1,
        "fall-back": 1,
    }


def test_a_chat_with_a_tool_is_counted_call_by_call_and_so_are_its_errors(tmp_path: Path) -> None:
    rows: list[tuple[Sample, Trace]] = []
    for id, errors in {"a": (), "b": ("Tool paint does not exists.",)}.items():
        sample = make_sample(id)
        use = ToolUse(boxes=(GOLD,), errors=errors)
        calling = Completion(text="", finish_reason="stop", model="m", usage=Usage(visual_tokens=(9,)), tool_use=use)
        trace = make_trace(sample, "<answer>B</answer>")
        assert trace.reasoning is not None
        said = trace.reasoning.model_copy(update={"usage": Usage(visual_tokens=(9, 4)), "earlier": (calling,)})
        looked = Perception(source="none", boxes=())
        rows.append((sample, trace.model_copy(update={"reasoning": said, "perception": looked})))
    run = store(tmp_path, rows, mode="tools")
    counts = count_troubles(run)
    assert counts["tool error"] == 1
    assert "box parse failure" not in counts and "box reply truncated" not in counts
    cost = measure_cost(run.rows)
    assert (cost.num_calls, cost.visual_tokens) == (4, 22)
    assert run.rows[0].trace.boxes == (GOLD,)


def test_a_search_of_one_token_a_question_is_not_a_truncated_box_reply(tmp_path: Path) -> None:
    sample = make_sample("a")
    asked = Completion(text="Yes", finish_reason="length", model="m")
    looked = asked.model_copy(update={"earlier": (asked, asked)})
    perception = Perception(source="zoom:m", boxes=(GOLD,), completion=looked)
    trace = make_trace(sample, "<answer>B</answer>").model_copy(update={"perception": perception})
    run = store(tmp_path, [(sample, trace)], mode="zoom")
    counts = count_troubles(run)
    assert "box reply truncated" not in counts and counts["fall-back"] == 0
    assert (measure_cost(run.rows, "perceiver").num_calls, measure_cost(run.rows).num_calls) == (3, 4)


def test_a_failed_sample_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    sample = make_sample("a")
    failure = Failure(stage="image", kind="ImageError", message="gone")
    run = store(tmp_path, [(sample, Trace(sample_id="a", image="p", question=sample.question, failure=failure))])
    table = make_scorecard(run)[0]
    assert find_row(table, "overall")["n"] == "0"
    assert any("1 of 1 sample has no verdict" in note for note in table.notes)


def test_a_run_of_which_nothing_was_judged_says_why(tmp_path: Path) -> None:
    def fail(id: str, cause: str) -> tuple[Sample, Trace]:
        sample = make_sample(id)
        failure = Failure(stage="reason", kind="EndpointError", message=cause)
        return sample, make_trace(sample, "").model_copy(
            update={"reasoning": None, "answer": None, "verdict": None, "failure": failure}
        )

    run = store(tmp_path / "run", [fail("1", "no server"), fail("2", "no server"), fail("3", "no image")])
    assert "Nothing was judged: 3 questions of 3 failed, 2 of them because no server." in tabulate_accuracy(run).notes


def test_accuracy_is_split_by_hit_and_miss(tmp_path: Path) -> None:
    samples = [make_sample(str(k)) for k in range(4)]
    rows = [
        (s, make_trace(s, f"<answer>{'B' if k < 3 else 'A'}</answer>", boxes=(GOLD,) if k < 2 else (FAR,)))
        for k, s in enumerate(samples)
    ]
    tables = make_scorecard(store(tmp_path, rows))
    table = next(table for table in tables if table.title.startswith("Accuracy by hit"))
    assert (find_row(table, "hit")["n"], find_row(table, "hit")["accuracy"]) == ("2", "100.0%")
    assert (find_row(table, "miss")["n"], find_row(table, "miss")["accuracy"]) == ("2", "50.0%")


def test_boxes_are_what_is_scored_where_the_benchmark_says_so(tmp_path: Path) -> None:
    sample = make_sample("a")
    run = store(tmp_path, [(sample, make_trace(sample, "whatever"))], scored_by="box", benchmark="reasonseg")
    table = make_scorecard(run)[0]
    assert table.title.startswith("Acc@0.5") and find_row(table, "overall")["robust"] == "100.0%"


def test_boxes_are_scored_without_a_reply_of_the_reasoner(tmp_path: Path) -> None:
    sample = replace(make_sample("a"), options=(), answer_form="free_form", target=None)
    trace = make_trace(sample, "").model_copy(update={"reasoning": None, "answer": None})
    run = store(tmp_path, [(sample, trace)], scored_by="box", benchmark="reasonseg")
    assert find_row(make_scorecard(run)[0], "overall")["robust"] == "100.0%"
    assert run.rows[0].answers == {}
    assert "no tag" not in count_troubles(run) and "box parse failure" in count_troubles(run)


def test_boxes_are_judged_as_boxes_also_where_a_judging_model_was_named(tmp_path: Path) -> None:
    sample = replace(make_sample("a"), options=(), answer_form="free_form", target="the sail")
    trace = make_trace(sample, "<answer>a boat</answer>")
    run = store(tmp_path, [(sample, trace)], scored_by="box", judge_model="m")
    assert run.rows[0].verdicts["robust"].judge == "box@0.5"


def test_what_a_judging_model_said_is_kept_and_it_is_not_asked_again(tmp_path: Path) -> None:
    said = {"a": ("a boat", True), "b": ("a ship", False), "c": ("a sail", False)}
    rows: list[tuple[Sample, Trace]] = []
    for id, (reply, correct) in said.items():
        sample = replace(make_sample(id), options=(), answer_form="free_form", target="the sail")
        verdict = Verdict(correct=correct, score=float(correct), judge="model:m")
        trace = make_trace(sample, f"<answer>{reply}</answer>")
        rows.append((sample, trace.model_copy(update={"answer": Answer(text=reply), "verdict": verdict})))
    judged = store(tmp_path / "judged", rows, judge_model="m")
    plain = store(tmp_path / "plain", rows)
    assert [row.verdicts["robust"].correct for row in judged.rows] == [True, False, True]
    assert [row.verdicts["robust"].correct for row in plain.rows] == [False, False, True]
    other = rows[0][1].model_copy(update={"answer": Answer(text="another reading")})
    run = store(tmp_path / "other", [(rows[0][0], other)], judge_model="m")
    assert run.rows[0].verdicts == {}


def test_a_run_is_read_while_its_last_line_is_being_written(tmp_path: Path) -> None:
    answer_all(tmp_path, {"a": "<answer>B</answer>", "b": "<answer>B</answer>"})
    path = tmp_path / "traces.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert set(read_run(tmp_path).traces) == {"a"}


def test_shards_merge_into_the_whole(tmp_path: Path) -> None:
    first = answer_all(tmp_path / "1", {"a": "<answer>B</answer>"}, shard="1/2")
    second = answer_all(tmp_path / "2", {"b": "<answer>A</answer>"}, shard="2/2")
    assert merge_runs([first, second], tmp_path / "whole") == []
    whole = read_run(tmp_path / "whole")
    assert set(whole.traces) == set(whole.facts) == {"a", "b"} and whole.settings.shard is None
    assert merge_runs([first], tmp_path / "part") == ["the shards 2/2 are missing"]
    with pytest.raises(StorageError, match="holds a run already"):
        merge_runs([first, second], tmp_path / "whole")
    with pytest.raises(StorageError, match="answers sample 'a'"):
        merge_runs([first, first], tmp_path / "twice")


def test_runs_of_other_models_do_not_merge(tmp_path: Path) -> None:
    first = answer_all(tmp_path / "1", {"a": ""}, shard="1/2")
    second = answer_all(tmp_path / "2", {"b": ""}, shard="2/2", model="other")
    with pytest.raises(StorageError, match="model is m in one and other in the other"):
        merge_runs([first, second], tmp_path / "whole")


def test_five_samples_that_differ_are_no_evidence(tmp_path: Path) -> None:
    def run(folder: str, wrong: tuple[int, ...]) -> ScoredRun:
        replies = {str(k): f"<answer>{'A' if k in wrong else 'B'}</answer>" for k in range(191)}
        return answer_all(tmp_path / folder, replies, model=folder)

    first, second = run("m", (0, 1, 2)), run("n", (3, 4))
    (contrast,), notes = compare_runs([first, second])
    assert contrast.verdict == "no evidence of a difference: 5 of 191 samples differ, p 1.0000"
    assert (contrast.num_gained, contrast.num_lost, contrast.p_value, notes) == (3, 2, 1.0, [])


def test_a_clear_difference_is_said_with_its_interval(tmp_path: Path) -> None:
    ids = [str(k) for k in range(40)]
    first = answer_all(tmp_path / "1", dict.fromkeys(ids, "<answer>A</answer>"))
    second = answer_all(tmp_path / "2", {id: f"<answer>{'AB'[int(id) % 2]}</answer>" for id in ids}, model="n")
    (contrast,), _ = compare_runs([first, second])
    assert contrast.verdict.startswith("n is better than m by 50.0 points (95% interval 3")
    ((reverse,), _) = compare_runs([second, first])
    assert reverse.verdict == contrast.verdict
    assert tabulate_contrasts([contrast]).rows[0][:6] == ("n - m", "overall", "40", "20", "0", "+50.0")


def test_rotations_of_few_questions_do_not_pass_for_many_samples(tmp_path: Path) -> None:
    def run(folder: str, letter: str) -> ScoredRun:
        samples = [make_sample(f"{q}.{c}", cluster=str(q), cycle=c) for q in range(4) for c in range(4)]
        rows = [(s, make_trace(s, f"<answer>{letter}</answer>")) for s in samples]
        return store(tmp_path / folder, rows, benchmark="hrbench_4k", model=folder)

    (contrast,), _ = compare_runs([run("one", "A"), run("two", "B")])
    assert contrast.p_value == 0.125
    assert contrast.verdict == "no evidence of a difference: 16 of 16 samples differ, p 0.1250"
    assert contrast.difference.low < 0.6 and contrast.spread == {4: 4} and contrast.num_questions == 4


def answer_some(folder: Path, right: Mapping[str, int], model: str) -> ScoredRun:
    """A run over V*'s two categories with so many right answers of 40 in each."""
    rows: list[tuple[Sample, Trace]] = []
    for category, count in right.items():
        samples = [make_sample(f"{category}.{k}", category=category) for k in range(40)]
        rows += [(s, make_trace(s, f"<answer>{'B' if k < count else 'A'}</answer>")) for k, s in enumerate(samples)]
    return store(folder, rows, benchmark="vstar", model=model)


def test_the_whole_is_what_was_asked_and_the_categories_are_a_second_family(tmp_path: Path) -> None:
    first = answer_some(tmp_path / "1", {"direct_attributes": 20, "relative_position": 20}, "m")
    second = answer_some(tmp_path / "2", {"direct_attributes": 26, "relative_position": 21}, "n")
    contrasts, _ = compare_runs([first, second])
    whole, attributes, relations = contrasts
    assert whole.p_value == whole.p_corrected == pytest.approx(2 / 2**7)
    assert attributes.p_value == pytest.approx(2 / 2**6) and attributes.p_corrected == 2 * attributes.p_value
    assert relations.p_value == relations.p_corrected == 1.0
    assert whole.verdict.startswith("n is better than m by 8.8 points")
    assert attributes.verdict == (
        "no evidence of a difference among so many comparisons: 6 of 40 samples differ, p 0.0312, but 0.0625 after "
        "Holm's correction"
    )


def test_several_pairs_are_corrected_and_their_power_is_that_of_the_corrected_test(tmp_path: Path) -> None:
    first = answer_some(tmp_path / "1", {"direct_attributes": 12}, "m")
    others = [answer_some(tmp_path / name, {"direct_attributes": 38}, name) for name in ("n", "o")]
    pair, _ = compare_runs([first, others[0]])
    contrasts, _ = compare_runs([first, *others])
    assert pair[0].p_corrected == pair[0].p_value
    assert [c.p_corrected for c in contrasts if c.column == "overall"] == [2 * pair[0].p_value] * 2
    (one,) = [note for note in tabulate_contrasts(pair).notes if "80% power" in note]
    (two,) = [note for note in tabulate_contrasts(contrasts).notes if "80% power" in note]
    assert "that such a pair shows at 80% power" in one and "that each of 2 such pairs shows" in two
    assert float(re.findall(r"([\d.]+) points", one)[0]) < float(re.findall(r"([\d.]+) points", two)[0])


def test_the_two_commands_know_the_same_power_of_rotated_questions(tmp_path: Path) -> None:
    """Two runs whose rotations move together: as many questions, not as many rows, tell them apart."""

    def run(folder: str, wrong: int) -> ScoredRun:
        samples = [make_sample(f"{q}.{c}", cluster=str(q), cycle=c) for q in range(100) for c in range(4)]
        rows = [
            (s, make_trace(s, f"<answer>{'A' if (int(s.cluster) + wrong) % 5 == 0 else 'B'}</answer>")) for s in samples
        ]
        return store(tmp_path / folder, rows, benchmark="hrbench_4k", model=folder)

    first, second = run("one", 0), run("two", 1)
    contrasts, _ = compare_runs([first, second])
    (pair,) = [note for note in tabulate_contrasts(contrasts).notes if "80% power" in note]
    (single,) = [note for note in tabulate_accuracy(first).notes if "80% power" in note]
    in_pair, alone = (float(re.findall(r"([\d.]+) points", note)[0]) for note in (pair, single))
    assert in_pair == pytest.approx(17.8, abs=0.5)  # of 100 questions of which 40 differ; 400 rows would show 8.9
    assert alone == pytest.approx(15.9, abs=0.5)  # of 100 questions of which 2 * 0.8 * 0.2 differ


def test_runs_of_other_benchmarks_and_questions_are_not_compared(tmp_path: Path) -> None:
    first = answer_all(tmp_path / "1", {"a": ""})
    with pytest.raises(StorageError, match="is a run of folder"):
        compare_runs([first, answer_all(tmp_path / "2", {"a": ""}, benchmark="vstar")])
    with pytest.raises(StorageError, match="share no judged sample"):
        compare_runs([first, answer_all(tmp_path / "3", {"b": ""}, model="n")])


def test_samples_judged_in_one_run_only_are_left_out_and_said(tmp_path: Path) -> None:
    first = answer_all(tmp_path / "1", {"a": "", "b": ""})
    (contrast,), notes = compare_runs([first, answer_all(tmp_path / "2", {"a": ""}, model="n")])
    assert contrast.num_samples == 1
    assert notes == ["1 sample is left out: not judged in both m and n"]


def test_markdown_holds_every_cell_and_note() -> None:
    table = Table(title="T", columns=("", "n"), rows=(("a|b", "1"),), notes=("Why.",))
    assert write_markdown([table]) == "### T\n\n|  | n |\n|---|---:|\n| a\\|b | 1 |\n\nWhy.\n"


async def test_a_run_is_scored_inside_a_running_event_loop(tmp_path: Path) -> None:
    number = replace(make_sample("n"), options=(), answer_form="number", target="1/2")
    rows = [(make_sample("a"), make_trace(make_sample("a"), "<answer>B</answer>"))]
    rows.append((number, make_trace(number, "<answer>$\\sqrt{1/4}$</answer>")))
    assert [row.verdicts["robust"].correct for row in store(tmp_path, rows).rows] == [True, True]


def test_runs_side_by_side_have_a_column_for_each_category_and_say_what_was_not_judged(tmp_path: Path) -> None:
    samples = [make_sample(str(k), category="xy"[k % 2]) for k in range(4)]
    rows = [(sample, make_trace(sample, f"<answer>{'BBBA'[k]}</answer>")) for k, sample in enumerate(samples)]
    failure = Failure(stage="image", kind="ImageError", message="gone")
    lost = (samples[0], rows[0][1].model_copy(update={"reasoning": None, "failure": failure}))
    table = tabulate_runs([store(tmp_path / "1", rows), store(tmp_path / "2", [lost, *rows[1:]], mode="none")])
    assert table.title == "Accuracy: folder (robust)"
    assert table.columns == ("run", "n", "chance", "accuracy", "95% interval", "x", "y")
    assert [row[:4] + row[5:] for row in table.rows] == [
        ("p2r", "4", "25.0%", "75.0%", "100.0%", "50.0%"),
        ("none", "3", "25.0%", "66.7%", "100.0%", "50.0%"),
    ]
    assert table.notes == ("none: 1 of 4 samples has no verdict and is not counted.",)


def test_prompts_that_were_not_seen_as_sent_are_counted_apart(tmp_path: Path) -> None:
    samples = [make_sample(id) for id in "abcd"]
    traces = [make_trace(sample, "<answer>B</answer>") for sample in samples]
    failure = Failure(stage="reason", kind="UnseenImageError", message="s does not see the images as they were sent")
    traces[0] = traces[0].model_copy(update={"failure": failure, "reasoning": None, "answer": None})
    guessed = Completion(text="<answer>B</answer>", finish_reason="stop", model="m", altered="shrunk")
    traces[1] = traces[1].model_copy(update={"reasoning": guessed.model_copy(update={"earlier": (guessed,)})})
    run = store(tmp_path, [*zip(samples, traces, strict=True)])
    assert count_troubles(run)["not seen as sent"] == 2
    assert count_troubles(run)["error"] == 1
    assert "3 prompts were not seen as sent: the server altered images." in tabulate_accuracy(run).notes
    assert len(run.judged("robust")) == 3, "a guess is no failure"
    fine = store(tmp_path / "fine", [*zip(samples[2:], traces[2:], strict=True)])
    assert "not seen as sent" not in count_troubles(fine)
    assert not any("not seen" in note for note in tabulate_accuracy(fine).notes)
