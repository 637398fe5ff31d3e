import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from p2r.errors import StorageError
from p2r.images.load import MemoryImage
from p2r.runs.evaluation import RunSettings
from p2r.runs.store import TraceStore, read_settings, read_traces
from p2r.types import Failure, Sample, Trace

SETTINGS = RunSettings(model="nano", mode="p2r")
IMAGE = MemoryImage(Image.new("RGB", (8, 8)))


def make_sample(id: str, question: str = "What?") -> Sample:
    return Sample(id=id, image=IMAGE, question=question)


def make_trace(id: str, question: str = "What?", *, failed: bool = False) -> Trace:
    failure = Failure(stage="reason", kind="EndpointError", message="gone") if failed else None
    return Trace(sample_id=id, image="memory", question=question, failure=failure)


def test_a_reopened_folder_knows_what_is_finished(tmp_path: Path) -> None:
    with TraceStore(tmp_path / "run", SETTINGS) as store:
        store.append(make_trace("a"))
    with TraceStore(tmp_path / "run", SETTINGS) as store:
        assert store.find(make_sample("a")) is not None
        assert store.find(make_sample("b")) is None


def test_a_trace_with_a_failure_is_asked_again_and_replaced(tmp_path: Path) -> None:
    with TraceStore(tmp_path, SETTINGS) as store:
        store.append(make_trace("a", failed=True))
        assert store.find(make_sample("a")) is None
    with TraceStore(tmp_path, SETTINGS) as store:
        assert store.find(make_sample("a")) is None
        store.append(make_trace("a"))
    assert (tmp_path / "traces.jsonl").read_text() == make_trace("a").model_dump_json() + "\n"


def test_the_same_id_with_another_question_is_asked_again(tmp_path: Path) -> None:
    with TraceStore(tmp_path, SETTINGS) as store:
        store.append(make_trace("a"))
    with TraceStore(tmp_path, SETTINGS) as store:
        assert store.find(make_sample("a", "Who?")) is None
        store.append(make_trace("a", "Who?"))
        assert store.find(make_sample("a", "Who?")) is not None
    assert [trace.question for trace in read_traces(tmp_path / "traces.jsonl")] == ["Who?"]


def test_another_target_is_judged_anew(tmp_path: Path) -> None:
    with TraceStore(tmp_path, SETTINGS) as store:
        store.append(make_trace("a"))
        assert store.find(dataclasses.replace(make_sample("a"), target="left")) is None


def test_a_last_line_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    with TraceStore(tmp_path, SETTINGS) as store:
        store.append(make_trace("a"))
        store.append(make_trace("b"))
    path = tmp_path / "traces.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with TraceStore(tmp_path, SETTINGS) as store:
        assert store.find(make_sample("a")) is not None
        assert store.find(make_sample("b")) is None
        store.append(make_trace("b"))
    assert [trace.sample_id for trace in read_traces(path)] == ["a", "b"]


def test_a_line_cut_inside_a_character_is_dropped_too(tmp_path: Path) -> None:
    with TraceStore(tmp_path, SETTINGS) as store:
        store.append(make_trace("a"))
        store.append(make_trace("b", "Where is the café"))
    path = tmp_path / "traces.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: content.index("é".encode()) + 1])
    with TraceStore(tmp_path, SETTINGS) as store:
        assert store.find(make_sample("a")) is not None


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    with TraceStore(tmp_path, SETTINGS) as store:
        store.append(make_trace("a"))
    path = tmp_path / "traces.jsonl"
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(StorageError, match=r"line 1 of .*traces\.jsonl is not a trace"):
        TraceStore(tmp_path, SETTINGS)


def test_a_question_with_unicode_line_breaks_stays_one_line(tmp_path: Path) -> None:
    question = "one\u2028two\x85three\nfour"
    with TraceStore(tmp_path, SETTINGS) as store:
        store.append(make_trace("a", question))
    assert [trace.question for trace in read_traces(tmp_path / "traces.jsonl")] == [question]
    with TraceStore(tmp_path, SETTINGS) as store:
        assert store.find(make_sample("a", question)) is not None


def test_a_folder_of_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    TraceStore(tmp_path, SETTINGS).__exit__(None, None, None)
    with pytest.raises(StorageError, match="mode was p2r, now direct; max_pixels was not set, now 4096") as caught:
        TraceStore(tmp_path, RunSettings(model="nano", mode="direct", max_pixels=4096))
    assert "another `out`" in caught.value.hint


def test_a_folder_that_is_a_file_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        TraceStore(tmp_path / "taken", SETTINGS)
    assert caught.value.hint


def test_reading_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read: no such file") as caught:
        read_traces(tmp_path / "traces.jsonl")
    assert caught.value.hint == "give a folder that `p2r eval` wrote; or restore traces.jsonl"


def test_an_unknown_key_of_a_trace_is_named(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps({**make_trace("a").model_dump(mode="json"), "invented": 3}) + "\n")
    with pytest.raises(StorageError, match=r"line 1 of .* is not a trace: invented is not a known name"):
        read_traces(path)


def test_an_empty_file_holds_no_traces(tmp_path: Path) -> None:
    (tmp_path / "traces.jsonl").write_text("")
    assert read_traces(tmp_path / "traces.jsonl") == ()


def test_a_cut_end_is_a_broken_line_unless_it_may_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(make_trace("a").model_dump_json() + "\n" + make_trace("b").model_dump_json()[:-9])
    assert [trace.sample_id for trace in read_traces(path, allow_cut_end=True)] == ["a"]
    with pytest.raises(StorageError, match=r"line 2 of .* is not a trace"):
        read_traces(path)


def test_a_password_is_not_stored_and_may_change(tmp_path: Path) -> None:
    for password in ("secret", "another"):
        settings = RunSettings(model=f"http://me:{password}@host/v1#m", judge_model="http://host/v1?token=t#m")
        with TraceStore(tmp_path, settings):
            stored = json.loads((tmp_path / "run.json").read_text())
        assert (stored["model"], stored["judge_model"]) == ("http://***@host/v1#m", "http://host/v1?token=***#m")
    with pytest.raises(StorageError, match=r"model was http://...@host/v1#m, now http://...@other/v1#m"):
        TraceStore(tmp_path, RunSettings(model="http://me:secret@other/v1#m", judge_model="http://host/v1?token=t#m"))


def test_a_folder_from_before_passwords_were_masked_is_resumed_and_masked(tmp_path: Path) -> None:
    old = RunSettings(model="http://me:secret@host/v1#m")
    (tmp_path / "run.json").write_text(old.model_dump_json())
    assert read_settings(tmp_path, RunSettings).model == "http://***@host/v1#m"
    with TraceStore(tmp_path, RunSettings(model="http://me:changed@host/v1#m")):
        assert "secret" not in (tmp_path / "run.json").read_text()
