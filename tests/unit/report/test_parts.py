"""The paper's figures, charts, and where a report finds runs and images."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.mme_realworld import LITE_CATEGORIES
from p2r.benchmarks.reasonseg import SPLITS
from p2r.errors import StorageError
from p2r.evaluation.aggregate import MME_COLUMNS
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.images.load import MemoryImage
from p2r.report.evaluation.published import NUM_SAMPLES, PublishedRow, read_published, tabulate_beside_paper
from p2r.report.evaluation.sections import find_images, find_run_folders, make_sections
from p2r.report.kit.scatter_chart import LETTER_PX, MOST_TICKS, Point, draw_scatter, find_ticks
from p2r.runs.evaluation import make_run, merge_runs, read_run, write_facts
from p2r.runs.origin import make_origin, read_origin, write_origin
from p2r.runs.store import TraceStore
from p2r.types import Completion, Sample, Trace

IMAGE = MemoryImage(Image.new("RGB", (8, 8)))
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
        shown = find_slips(row)
        if row.method == "Qwen3-VL-Instruct-8B" and row.benchmark == "hrbench_8k":
            shown = {"cross"}  # either could be wrong; 70.1 stands in both columns
        if row.method == "DeepEyes-7B" and row.benchmark == "vstar":
            shown |= {"overall"}  # not by arithmetic: the right option always stood at A
        assert set(row.slips) == shown, row


def test_the_paper_has_all_its_tables() -> None:
    rows = read_published().rows
    assert {row.table for row in rows} == {f"Table {k}" for k in range(1, 6)}
    assert {row.benchmark for row in rows} == {*NUM_SAMPLES, "reasonseg"}
    [best] = [row for row in rows if (row.method, row.benchmark, row.table) == ("P2R-4B", "vstar", "Table 1")]
    assert best.values == {"overall": 93.2, "direct_attributes": 92.2, "relative_position": 94.7}


def make_sample(id: str, category: str = "direct_attributes") -> Sample:
    return Sample(
        id=id,
        image=IMAGE,
        question=f"What is {id}?",
        options=("a star", "a fish"),
        answer_form="choice",
        target="A",
        category=category,
        chance=0.5,
    )


def make_trace(sample: Sample, reply: str = "<answer>A</answer>", image: str = "gone.png") -> Trace:
    return Trace(
        sample_id=sample.id,
        image=image,
        question=sample.question,
        options=sample.options,
        answer_form=sample.answer_form,
        target=sample.target,
        reasoning=Completion(text=reply, finish_reason="stop", model="m"),
    )


def make_scored(benchmark: str, mode: str = "p2r", *, image: str = "gone.png", replies: str = "AB") -> ScoredRun:
    samples = [make_sample(str(k)) for k in range(len(replies))]
    traces = [make_trace(s, f"<answer>{r}</answer>", image) for s, r in zip(samples, replies, strict=True)]
    return score_run(make_run(samples, traces, {"benchmark": benchmark, "mode": mode}))


def test_our_runs_stand_above_the_papers_lines_with_where_each_is_from() -> None:
    table = tabulate_beside_paper([make_scored("vstar")], ["mine"])
    assert table is not None
    assert table.columns == ("", "from", "n", "overall", "95% interval", "direct_attributes", "relative_position")
    assert table.rows[0][:4] == ("mine", "here", "2", "50.0%")
    paper = next(row for row in table.rows if row[:2] == ("P2R-4B", "Table 1"))
    assert paper[2:] == ("191", "93.2%", "88.7 - 96.0%", "92.2%", "94.7%")
    assert any("DeepEyes-7B, overall: measured with the right option always at A." in note for note in table.notes)


def test_no_interval_is_claimed_where_rotations_are_not_independent() -> None:
    table = tabulate_beside_paper([make_scored("hrbench_4k")], ["mine"])
    assert table is not None
    row = next(row for row in table.rows if row[:2] == ("P2R-8B", "Table 1"))
    assert row[2:5] == ("800", "81.5%*", "-")


def test_of_other_benchmarks_the_paper_says_nothing() -> None:
    assert tabulate_beside_paper([make_scored("needles")], ["mine"]) is None


@pytest.mark.parametrize(("least", "most"), [(3, 4), (1, 1), (1, 9000), (0.01, 120), (900, 7000), (1e-4, 1e7)])
def test_ticks_enclose_the_points_and_are_few(least: float, most: float) -> None:
    ticks = find_ticks(least, most)
    assert ticks[0] <= least and ticks[-1] >= most
    assert 2 <= len(ticks) <= MOST_TICKS and ticks == sorted(ticks)


def test_labels_of_a_chart_do_not_lie_over_each_other() -> None:
    points = [Point(f"run number {k}", 100.0 + k, 0.5, 0.4, 0.6) for k in range(6)]
    svg = ET.fromstring(str(draw_scatter(points, "tokens", "accuracy", reference=0.25)))
    spans: list[tuple[float, float, float]] = []
    for text in svg.iter("text"):
        kind, x, width = text.get("class") or "", float(text.get("x") or 0), LETTER_PX * len(text.text or "")
        if kind.startswith("name"):
            left = x - width if "end" in kind else x
            spans.append((left, left + width, float(text.get("y") or 0)))
    assert len(spans) == 6
    for k, (left, right, y) in enumerate(spans):
        assert all(abs(y - other[2]) >= 14 or right < other[0] or other[1] < left for other in spans[:k])


def test_a_name_cannot_break_a_chart() -> None:
    svg = str(draw_scatter([Point("<b>&", 1, 0.5, 0.4, 0.6), Point("x", 2, 0.5, 0.4, 0.6)], "tokens", "accuracy"))
    assert "<b>" not in svg and ET.fromstring(svg) is not None


def test_runs_below_a_folder_are_found_in_the_order_of_the_modes(tmp_path: Path) -> None:
    for mode in ("random", "p2r", "direct"):
        with TraceStore(tmp_path / "needles" / mode, {"mode": mode}):
            write_facts(tmp_path / "needles" / mode, [make_sample("a")])
    names = [folder.name for folder in find_run_folders([tmp_path, tmp_path / "needles" / "p2r"])]
    assert names == ["direct", "p2r", "random"]
    with pytest.raises(StorageError, match="holds no run"):
        find_run_folders([tmp_path / "nowhere"])


def test_runs_are_sorted_by_benchmark_and_named_by_what_differs() -> None:
    runs = [make_scored("vstar", "direct"), make_scored("needles", "p2r"), make_scored("vstar", "p2r")]
    sections = make_sections(runs)
    assert [(c.benchmark, c.names, c.primary) for c in sections] == [
        ("vstar", ("direct", "p2r"), 1),
        ("needles", ("p2r",), 0),
    ]
    assert make_sections(runs, primary="direct")[0].primary == 0
    with pytest.raises(StorageError, match="no run is called 'oracle'"):
        make_sections(runs, primary="oracle")


def write_questions(folder: Path) -> Path:
    for k in range(2):
        Image.new("RGB", (20 + k, 10)).save(folder / f"{k}.png")
    rows = [{"id": str(k), "image": f"{k}.png", "question": f"What is {k}?", "target": "it"} for k in range(2)]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_images_are_found_where_the_run_says_its_data_lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_questions(tmp_path)
    monkeypatch.chdir(tmp_path)
    samples = load_benchmark("folder:questions.jsonl")
    with TraceStore(tmp_path / "run", {"benchmark": "folder"}) as store:
        write_facts(store.folder, samples)
        write_origin(store.folder, make_origin("folder:questions.jsonl"))
        for sample in samples:
            store.append(make_trace(sample))
    monkeypatch.chdir("/")
    images, problem = find_images([score_run(read_run(tmp_path / "run"))], None)
    assert problem == "" and [images[id].load().width for id in ("0", "1")] == [20, 21]


def test_data_that_are_gone_are_said_and_given_anew(tmp_path: Path) -> None:
    run = make_scored("folder")
    images, problem = find_images([run], None)
    assert images == {} and problem == "The runs do not say where their data are."
    images, problem = find_images([run], load_benchmark(f"folder:{write_questions(tmp_path)}"))
    assert set(images) == {"0", "1"} and problem == ""


def test_a_image_of_another_question_is_not_shown(tmp_path: Path) -> None:
    path = write_questions(tmp_path)
    path.write_text(path.read_text().replace("What is 1?", "Who is 1?"))
    images, problem = find_images([make_scored("folder")], load_benchmark(f"folder:{path}"))
    assert set(images) == {"0"}
    assert re.fullmatch(r"1 image is not in .*questions\.jsonl\.", problem)


def test_the_file_a_trace_names_serves_when_the_data_are_gone(tmp_path: Path) -> None:
    Image.new("RGB", (30, 10)).save(tmp_path / "a.png")
    images, problem = find_images([make_scored("folder", image=str(tmp_path / "a.png"))], None)
    assert problem == "" and images["0"].load().width == 30


def test_a_moved_folder_is_no_other_run(tmp_path: Path) -> None:
    write_origin(tmp_path, make_origin("needles", seed=1))
    write_origin(tmp_path, make_origin("needles", seed=2))
    origin = read_origin(tmp_path)
    assert origin is not None and origin.seed == 2
    (tmp_path / "origin.json").write_text("{}")
    with pytest.raises(StorageError, match="does not say where the data lay"):
        read_origin(tmp_path)


def test_a_merged_run_keeps_where_its_data_lay(tmp_path: Path) -> None:
    for k in (1, 2):
        with TraceStore(tmp_path / str(k), {"shard": f"{k}/2"}) as store:
            write_facts(store.folder, [make_sample(str(k))])
            write_origin(store.folder, make_origin("needles", seed=3))
            store.append(make_trace(make_sample(str(k))))
    merge_runs([read_run(tmp_path / "1"), read_run(tmp_path / "2")], tmp_path / "whole")
    origin = read_origin(tmp_path / "whole")
    assert origin is not None and origin.seed == 3
