"""`load_benchmark`: one door for every name, path and data set, and a clear sentence for all others."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2r.benchmarks import BENCHMARKS, check_benchmark, load_benchmark
from p2r.cli.app import app
from p2r.errors import DataError
from tests.fakes.benchmark_files import make_bytes, write_parquet, write_reasonseg, write_vstar


def test_needles_come_through_the_same_door() -> None:
    benchmark = load_benchmark("needles", seed=3, num_samples=6)
    assert [sample.id for sample in benchmark] == [f"needles:3/{k}" for k in range(6)]
    assert (benchmark.name, benchmark.differences, benchmark.source) == ("needles", (), "needles:3")
    report = check_benchmark(benchmark)
    assert report.passed and report.num_answers == 6 and report.num_unjudged == 0


def test_a_file_without_any_right_answer_is_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(make_bytes(0))
    path = tmp_path / "mine.jsonl"
    rows = ['{"image": "a.png", "question": "What is it?"}', '{"image": "a.png", "question": "Where?"}']
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    report = check_benchmark(load_benchmark(f"folder:{path}"))
    assert report.problems == ("no question has a right answer, so nothing can be scored",)
    path.write_text("\n".join([*rows, rows[0][:-1] + ', "target": "a star"}']) + "\n", encoding="utf-8")
    report = check_benchmark(load_benchmark(f"folder:{path}"))
    assert (report.passed, report.num_unjudged, report.num_answers) == (True, 2, 1)


def test_a_fingerprint_tells_data_apart_and_not_places(tmp_path: Path) -> None:
    first = load_benchmark(write_vstar(tmp_path / "a"))
    assert first.fingerprint == load_benchmark(write_vstar(tmp_path / "b")).fingerprint
    assert first.fingerprint != load_benchmark(tmp_path / "a", seed=1).fingerprint


def test_layouts_are_recognized(tmp_path: Path) -> None:
    assert load_benchmark(write_vstar(tmp_path / "some data")).name == "vstar"
    assert load_benchmark(write_reasonseg(tmp_path / "val")).name == "reasonseg"


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "folder"])
def test_a_name_alone_asks_where_the_data_lies(name: str) -> None:
    with pytest.raises(DataError, match=f"{name} needs a place") as error:
        load_benchmark(name)
    assert f"{name}:PATH" in error.value.hint


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_a_path_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        load_benchmark(f"{name}:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("spec", ["vstars", "/no/where", "some/dataset"])
def test_a_spec_that_is_nothing_is_refused(spec: str) -> None:
    with pytest.raises(DataError, match=spec):
        load_benchmark(spec)


def test_columns_of_no_known_layout_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its columns are bird, fish"):
        load_benchmark(write_parquet(tmp_path / "data.parquet", [{"fish": 1, "bird": 2}]))


def test_an_id_of_the_hub_without_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.snapshot_download", _refuse)
    with pytest.raises(DataError, match="the hub cannot be reached") as error:
        load_benchmark("lmms-lab/vstar-bench")
    assert "local folder" in error.value.hint


def test_an_id_of_the_hub_is_loaded_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    folder = write_vstar(tmp_path / "snapshot")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    assert len(load_benchmark("craigwu/vstar_bench")) == 5
    assert load_benchmark("vstar:somebody/a_copy").name == "vstar"


def _refuse(hub_id: str, *, local_files_only: bool = False, **_: object) -> str:
    raise FileNotFoundError(hub_id) if local_files_only else ConnectionError("no route")


def test_skip_bad_counts_rows() -> None:
    with pytest.raises(DataError, match="skip_bad is -1"):
        load_benchmark("vstar:x", skip_bad=-1)


def test_own_questions_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(make_bytes(1))
    path = tmp_path / "vstar_mine.jsonl"
    path.write_text('{"image": "a.jpg", "question": "What?", "target": "a kite"}')
    assert load_benchmark(path).name == "folder"


@pytest.mark.parametrize("name", ["split", "boxes", "images"])
def test_needles_takes_nothing_that_it_would_not_read(name: str) -> None:
    with pytest.raises(DataError, match=f"it takes no `{name}`"):
        load_benchmark("needles", **{name: "x"})  # type: ignore[arg-type]


def write_question(path: Path) -> Path:
    (path.parent / "a.jpg").write_bytes(make_bytes(1))
    path.write_text('{"image": "a.jpg", "question": "What?", "target": "a kite"}\n')
    return path


@pytest.mark.parametrize("name", ["", "folder:", "rows:"])
def test_a_single_file_has_no_splits(tmp_path: Path, name: str) -> None:
    path = write_question(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match=r"rows\.jsonl is a single file, which has no split 'val'") as caught:
        load_benchmark(f"{name}{path}", split="val")
    assert "leave out `split`" in caught.value.hint


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "rows.jsonl", "--split", "val"],
        ["check", "rows.jsonl", "--split", "val"],
        ["convert", "rows.jsonl", "out.json", "--to", "llava", "--split", "val"],
        ["leakage", "needles_too.jsonl", "rows.jsonl", "--split", "val"],
        ["leakage", "rows.jsonl", "rows.jsonl", "--train-split", "val"],
        ["sample", "rows.jsonl", "--split", "val", "--rollouts", "2"],
        ["train", "nano", "--set", "data.source=rows.jsonl", "--set", "data.split=val", "--set", "out=run"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_refuses_a_split_of_a_single_file(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rows.jsonl", "needles_too.jsonl"):
        write_question(tmp_path / name)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1, result.output
    assert "error: rows.jsonl is a single file, which has no split 'val'" in result.stderr
    flag = "data.split" if command[0] == "train" else next(each for each in command if each.endswith("split"))
    assert f"hint: leave out {flag}, or give the folder" in result.stderr
