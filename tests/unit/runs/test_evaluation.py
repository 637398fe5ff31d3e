"""run.json and the run it belongs to: old folders, other commands' folders, and what a run says about itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks.hrbench import FACTS_4K, FACTS_8K
from p2r.benchmarks.load import BENCHMARKS
from p2r.benchmarks.mme_realworld import FACTS, FACTS_LITE
from p2r.errors import StorageError
from p2r.images.load import MemoryImage
from p2r.runs.evaluation import RunSettings, find_aggregation, make_run, read_run, write_facts
from p2r.runs.store import SETTINGS_FILE, TraceStore, read_settings
from p2r.types import Failure, Frozen, Sample, Trace

OLD = {
    "benchmark": "hrbench_4k",
    "benchmark_fingerprint": "ce4ab4e955b3",
    "scored_by": "answer",
    "letters": "ABCD",
    "mode": "p2r",
    "model": "nano",
    "perceiver_model": None,
    "prompts": "release",
    "judge_model": None,
    "prompt_fingerprint": "b105557b9af4",
    "roles": "329003e8451c",
    "max_pixels": None,
    "dtype": None,
    "limit": 24,
    "seed": 0,
    "shard": None,
    "share_perception": None,
}
"""The settings of a run from before its aggregation, and the family and frame of a model, were stated."""


def write(folder: Path, settings: object) -> Path:
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n")
    return folder


def make_samples(count: int) -> list[Sample]:
    image = MemoryImage(Image.new("RGB", (8, 8)))
    return [Sample(id=str(k), image=image, question="What?") for k in range(count)]


def make_trace(id: str, *, failed: bool = False) -> Trace:
    failure = Failure(stage="reason", kind="EndpointError", message="gone") if failed else None
    return Trace(sample_id=id, image="memory", question="What?", failure=failure)


def test_every_old_key_is_kept_by_its_name() -> None:
    newer = {"aggregation", "profile", "perceiver_profile", "family", "frame"}
    newer |= {"perceiver_new_tokens", "reasoner_new_tokens", "engine_args", "samples", "shuffles", "temperature"}
    assert set(RunSettings.model_fields) == {*OLD, *newer}


def test_an_old_folder_opens_and_is_resumed(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    settings = read_settings(tmp_path, RunSettings)
    assert settings.aggregation == "cycles"
    assert settings.family is settings.frame is None
    assert {**settings.model_dump(mode="json"), **OLD} == settings.model_dump(mode="json")
    now = RunSettings.model_validate({**OLD, "aggregation": "cycles"})
    with TraceStore(tmp_path, now) as store:
        write_facts(tmp_path, make_samples(1))
        store.append(make_trace("0"))
    assert read_run(tmp_path).settings == now
    assert json.loads((tmp_path / SETTINGS_FILE).read_text()) == OLD


def test_a_folder_with_fewer_settings_has_the_defaults_for_the_others(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, {"benchmark": "needles", "mode": "oracle"}), RunSettings)
    assert settings == RunSettings(benchmark="needles", mode="oracle")
    assert (settings.aggregation, settings.letters, settings.seed) == ("categories", "ABCD", 0)


@pytest.mark.parametrize("facts", [FACTS, FACTS_LITE, FACTS_4K, FACTS_8K])
def test_an_old_folder_is_aggregated_as_its_benchmark_is(facts: object) -> None:
    assert find_aggregation(facts.name) == facts.aggregation != "categories"  # type: ignore[attr-defined]


def test_all_other_benchmarks_are_aggregated_by_category() -> None:
    special = {"mme_realworld", "mme_realworld_lite", "hrbench_4k", "hrbench_8k"}
    assert {find_aggregation(name) for name in {*BENCHMARKS, "needles", ""} - special} == {"categories"}


def test_a_stated_aggregation_is_not_derived() -> None:
    assert RunSettings(benchmark="hrbench_4k", aggregation="categories").aggregation == "categories"


def test_unknown_settings_are_refused_with_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, {**OLD, "kelvins": 0.5, "engine": "new"})
    with pytest.raises(StorageError, match="settings that are not known here: kelvins, engine") as caught:
        read_settings(tmp_path, RunSettings)
    assert "newer p2r" in caught.value.hint


@pytest.mark.parametrize(
    "settings", [[1, 2], "p2r", {**OLD, "benchmark": 4}, {**OLD, "mode": "psychic"}, {**OLD, "limit": "few"}]
)
def test_settings_that_are_not_settings_are_refused(tmp_path: Path, settings: object) -> None:
    with pytest.raises(StorageError, match="does not hold the settings") as caught:
        read_settings(write(tmp_path, settings), RunSettings)
    assert caught.value.hint == "give a folder that `p2r eval` wrote; or restore run.json"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (json.dumps({**OLD, "limit": "few"}).encode(), "limit is 'few': it must be a whole number"),
        (json.dumps({**OLD, "benchmark": 4}).encode(), "benchmark is 4: it must be text"),
        (b"[1]", "it must be a table of names and values"),
        (b'{"mode": ', "it is not JSON: EOF while parsing"),
        (b'{"mode": "\xff"}', "it is not JSON: "),
    ],
)
def test_what_is_wrong_in_settings_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(StorageError, match=rf"run\.json does not hold the settings of such a run: {reason}"):
        read_settings(tmp_path, RunSettings)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    class OtherSettings(Frozen):
        weights: str

    TraceStore(tmp_path, OtherSettings(weights="a")).__exit__(None, None, None)
    with pytest.raises(StorageError, match="not known here: weights"):
        TraceStore(tmp_path, RunSettings())


def test_traces_without_their_samples_are_not_an_evaluation(tmp_path: Path) -> None:
    TraceStore(tmp_path, RunSettings()).__exit__(None, None, None)
    with pytest.raises(StorageError, match="holds no evaluation"):
        read_run(tmp_path)
    (tmp_path / "samples.jsonl").write_text('{"sample_id": "a"}\n{"id": "b"}\n')
    with pytest.raises(StorageError, match=r"line 2 of .*samples\.jsonl does not describe a sample"):
        read_run(tmp_path)


def test_a_run_says_what_was_asked_how_far_it_came_and_where_it_lies(tmp_path: Path) -> None:
    settings = RunSettings(benchmark="needles", mode="p2r", model="nano")
    run = make_run(make_samples(3), [make_trace("0"), make_trace("1", failed=True)], settings)
    assert repr(run) == "<Run needles p2r nano: 2 of 3 asked, 1 failed, in memory>"
    assert run.place == run.name == "needles p2r nano"
    assert [failure.message for failure in run.failures] == ["gone"]
    with TraceStore(tmp_path, settings) as store:
        write_facts(tmp_path, make_samples(1))
        store.append(make_trace("0"))
    assert repr(read_run(tmp_path)) == f"<Run needles p2r nano: 1 of 1 asked, in {tmp_path}>"
