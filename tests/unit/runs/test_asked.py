"""Folders that `p2r ask` wrote, read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.dialogue import Budget
from p2r.errors import StorageError
from p2r.report.trace import save_trace
from p2r.runs.asked import (
    IMAGES_FOLDER,
    AskedPlace,
    BatchSettings,
    find_asked_folders,
    is_asked,
    name_folder,
    read_asked,
    write_place,
)
from p2r.runs.evaluation import RunSettings, write_facts
from p2r.runs.store import TraceStore
from tests.fakes.reports import GOLD, make_sample, make_trace

SETTINGS = BatchSettings(
    model="nano",
    perceiver_model=None,
    mode="p2r",
    prompts="release",
    prompt_fingerprint="f",
    max_pixels=None,
    dtype=None,
)
PLACE = AskedPlace(working_directory="/somewhere", budget=Budget(max_pixels=65536))


def write_batch(folder: Path, *ids: str) -> Path:
    with TraceStore(folder, SETTINGS) as store:
        write_place(folder, PLACE)
        for id in ids:
            sample = make_sample(id)
            trace = make_trace(sample, boxes=(GOLD,))
            store.append(trace)
            save_trace(folder / IMAGES_FOLDER / name_folder(id), trace, sample.image)
    return folder


def write_evaluation(folder: Path) -> Path:
    with TraceStore(folder, RunSettings(benchmark="needles")):
        write_facts(folder, [make_sample("a")])
    return folder


def test_a_batch_is_read_with_its_place_and_its_saved_images(tmp_path: Path) -> None:
    asked = read_asked(write_batch(tmp_path / "people", "a", "../b"))
    assert [trace.sample_id for trace in asked.traces] == ["a", "../b"]
    assert (asked.settings, asked.place) == (SETTINGS, PLACE)
    assert set(asked.saved) == {"a", "../b"}
    assert all((folder / "annotated.png").is_file() for folder in asked.saved.values())


def test_a_single_question_is_read(tmp_path: Path) -> None:
    trace = make_trace(make_sample("a"), boxes=(GOLD,))
    save_trace(tmp_path / "one", trace, make_sample("a").image)
    asked = read_asked(tmp_path / "one")
    assert asked.traces == (trace,) and asked.settings is None
    assert asked.saved == {"a": tmp_path / "one"}
    assert asked.place is None
    write_place(tmp_path / "one", PLACE)
    assert read_asked(tmp_path / "one").place == PLACE


def test_a_question_of_a_batch_has_the_place_of_the_batch(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "people", "a")
    assert read_asked(batch / IMAGES_FOLDER / "a").place == PLACE


def test_folders_are_found_without_the_images_inside_a_batch_and_without_evaluations(tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "people", "a", "b")
    save_trace(tmp_path / "single", make_trace(make_sample("a"), boxes=(GOLD,)), make_sample("a").image)
    save_trace(tmp_path / IMAGES_FOLDER / "lone", make_trace(make_sample("a")), make_sample("a").image)
    write_evaluation(tmp_path / "needles" / "p2r")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert find_asked_folders(tmp_path) == [tmp_path / IMAGES_FOLDER / "lone", batch, tmp_path / "single"]
    assert find_asked_folders(batch) == [batch]
    assert not is_asked(tmp_path / "needles" / "p2r") and not is_asked(tmp_path / "nowhere")


def test_an_evaluation_that_lost_its_samples_is_not_taken_for_a_batch(tmp_path: Path) -> None:
    (write_evaluation(tmp_path / "run") / "samples.jsonl").unlink()
    assert not is_asked(tmp_path / "run")


def test_a_batch_before_its_first_answer_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no answer yet"):
        read_asked(write_batch(tmp_path / "people"))


@pytest.mark.parametrize("text", ["", "{", '{"sample_id": 1}', "[]"])
def test_a_broken_trace_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "trace.json").write_text(text)
    with pytest.raises(StorageError, match=r"trace.json is not what `p2r ask` writes") as caught:
        read_asked(tmp_path)
    assert caught.value.hint
