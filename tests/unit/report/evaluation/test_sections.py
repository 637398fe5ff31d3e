"""Where a report finds runs and their images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks import Origin, load_benchmark
from p2r.errors import StorageError
from p2r.evaluation.evaluate import evaluate
from p2r.evaluation.repeats import repeat_samples
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.models.scripted import ScriptedModel
from p2r.report.evaluation.sections import find_images, find_run_folders, list_run_folders, make_sections
from p2r.runs.evaluation import RunSettings, read_run, write_facts
from p2r.runs.merge import merge_runs
from p2r.runs.origin import read_origin, write_origin
from p2r.runs.store import TraceStore
from tests.fakes.benchmark_files import write_parquet, zoombench_rows
from tests.fakes.reports import make_sample, make_scored, make_trace


def test_runs_below_a_folder_are_found_in_the_order_of_the_modes(tmp_path: Path) -> None:
    for mode in ("random", "p2r", "direct"):
        with TraceStore(tmp_path / "needles" / mode, RunSettings(mode=mode)):
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
    with TraceStore(tmp_path / "run", RunSettings(benchmark="folder")) as store:
        write_facts(store.folder, samples)
        write_origin(store.folder, samples.origin)
        for sample in samples:
            store.append(make_trace(sample))
    monkeypatch.chdir("/")
    images, _, problem = find_images([score_run(read_run(tmp_path / "run"))], None)
    assert problem == "" and [images[id].load().width for id in ("0", "1")] == [20, 21]


def test_replies_to_the_same_question_have_its_image(tmp_path: Path) -> None:
    samples = load_benchmark(f"folder:{write_questions(tmp_path)}")
    repeated = repeat_samples([*samples], num_draws=2, num_orders=1, seed=0)
    with TraceStore(tmp_path / "run", RunSettings(benchmark="folder", samples=2)) as store:
        write_facts(store.folder, repeated)
        write_origin(store.folder, samples.origin)
        for sample in repeated:
            store.append(make_trace(sample))
    images, _, problem = find_images([score_run(read_run(tmp_path / "run"))], None)
    assert problem == "" and {id: image.load().width for id, image in images.items()} == {
        "0#1": 20,
        "0#2": 20,
        "1#1": 21,
        "1#2": 21,
    }


def test_missing_data_are_reported_and_can_be_named(tmp_path: Path) -> None:
    run = make_scored("folder")
    images, _, problem = find_images([run], None)
    assert images == {} and problem == "The runs do not say where their data are."
    images, _, problem = find_images([run], load_benchmark(f"folder:{write_questions(tmp_path)}"))
    assert set(images) == {"0", "1"} and problem == ""


def test_an_image_of_another_question_is_not_shown(tmp_path: Path) -> None:
    path = write_questions(tmp_path)
    path.write_text(path.read_text().replace("What is 1?", "Who is 1?"))
    images, _, problem = find_images([make_scored("folder")], load_benchmark(f"folder:{path}"))
    assert set(images) == {"0"}
    assert re.fullmatch(r"1 image is not in .*questions\.jsonl\.", problem)


def test_the_file_a_trace_names_serves_when_the_data_are_gone(tmp_path: Path) -> None:
    Image.new("RGB", (30, 10)).save(tmp_path / "a.png")
    images, _, problem = find_images([make_scored("folder", image=str(tmp_path / "a.png"))], None)
    assert problem == "" and images["0"].load().width == 30


def test_the_origin_of_a_run_can_be_written_again(tmp_path: Path) -> None:
    write_origin(tmp_path, Origin(spec="needles", seed=1))
    write_origin(tmp_path, Origin(spec="needles", seed=2))
    origin = read_origin(tmp_path)
    assert origin is not None and origin.seed == 2
    (tmp_path / "origin.json").write_text("{}")
    with pytest.raises(StorageError, match="does not say where the data lay"):
        read_origin(tmp_path)


def test_a_merged_run_keeps_where_its_data_lay(tmp_path: Path) -> None:
    for k in (1, 2):
        with TraceStore(tmp_path / str(k), RunSettings(shard=f"{k}/2")) as store:
            write_facts(store.folder, [make_sample(str(k))])
            write_origin(store.folder, Origin(spec="needles", seed=3))
            store.append(make_trace(make_sample(str(k))))
    merge_runs([read_run(tmp_path / "1"), read_run(tmp_path / "2")], tmp_path / "whole")
    origin = read_origin(tmp_path / "whole")
    assert origin is not None and origin.seed == 3


def test_what_a_training_saw_is_no_evaluation(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence" / "1-reasoner"
    evidence.mkdir(parents=True)
    (evidence / "run.json").write_text('{"weights": "a", "perceiver": "b"}')
    assert list_run_folders(tmp_path) == [evidence]  # not below a training
    (tmp_path / "recipe.json").write_text("{}")
    assert list_run_folders(tmp_path) == []


def ask_file(path: Path, question: str, out: Path, *, count: int = 2, limit: int | None = None) -> ScoredRun:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10)).save(path.parent / "0.png")
    rows = [{"id": str(k), "image": "0.png", "question": f"{question} {k}?", "target": "it"} for k in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return evaluate(path, ScriptedModel({"perceiver": "[]", "reasoner": "it"}), out=out, mode="direct", limit=limit)


def test_runs_of_other_data_have_a_section_of_their_own(tmp_path: Path) -> None:
    a = ask_file(tmp_path / "A.jsonl", "What is", tmp_path / "RA")
    part = ask_file(tmp_path / "A.jsonl", "What is", tmp_path / "part", limit=1)
    b = ask_file(tmp_path / "B.jsonl", "Who is", tmp_path / "RB")
    sections = make_sections([a, b, part])
    assert [(one.benchmark, one.runs) for one in sections] == [
        ("folder (A.jsonl)", (a, part)),
        ("folder (B.jsonl)", (b,)),
    ]
    assert [one.benchmark for one in make_sections([a, part])] == ["folder"]


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [ask_file(tmp_path / x / "data.jsonl", f"{x} is", tmp_path / f"R{x}") for x in "AB"]
    first, second = (one.benchmark for one in make_sections(runs))
    assert first.endswith("A/data.jsonl)") and second.endswith("B/data.jsonl)")


def test_a_file_that_was_changed_is_other_data_and_a_longer_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    before = ask_file(path, "What is", tmp_path / "1")
    longer = ask_file(path, "What is", tmp_path / "2", count=4)
    changed = ask_file(path, "Who is", tmp_path / "3")
    sections = make_sections([before, longer, changed])
    assert [one.runs for one in sections] == [(before, longer), (changed,)]
    assert len({one.benchmark for one in sections}) == 2


def test_crops_are_found_where_a_run_showed_them(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "zoombench.parquet", zoombench_rows(4))
    benchmark = load_benchmark(f"zoombench:{path}")
    runs = [
        evaluate(benchmark, ScriptedModel({"reasoner": "<answer>A</answer>"}), mode=mode)
        for mode in ("direct", "paired-crop")
    ]
    images, crops, problem = find_images(runs, benchmark)
    assert (list(images), list(crops), problem) == (["0", "1", "2", "3"], ["0", "1", "2", "3"], "")
    sample = benchmark[0]
    assert sample.crop is not None
    assert (images["0"].uri, crops["0"].uri) == (
        sample.image.uri,
        sample.crop.uri,
    ) and sample.crop.uri != sample.image.uri
    assert find_images(runs[:1], benchmark)[1] == {}
