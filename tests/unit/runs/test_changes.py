"""A folder that holds another run says in which way: everything that differs, what matters most first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2r.benchmarks.base import Origin
from p2r.errors import StorageError
from p2r.runs.asked import BatchSettings
from p2r.runs.changes import FACTS, HASHES, ORDER, explain_changes, list_changes
from p2r.runs.evaluation import RunSettings
from p2r.runs.origin import write_origin
from p2r.runs.store import TraceStore
from p2r.training.memo import EvidenceSettings
from p2r.types import Frozen

MINE = Origin(spec="folder:/data/mine.jsonl")
BEFORE: dict[str, Any] = {
    "benchmark": "folder",
    "benchmark_fingerprint": "a1",
    "mode": "p2r",
    "model": "nano",
    "prompts": "release",
    "prompt_fingerprint": "b1",
    "roles": "c1",
}
OTHER_QUESTIONS = "another run: the questions, right answers or boxes are others"


def explain(changes: dict[str, object], is_now: Origin | None = MINE, was: Origin | None = MINE) -> str:
    before, now = RunSettings(**BEFORE), RunSettings(**{**BEFORE, **changes})
    return explain_changes(before.model_dump(mode="json"), now.model_dump(mode="json"), was=was, is_now=is_now)


def move(**changes: object) -> Origin:
    return MINE.model_copy(update=changes)


TWO = move(spec="folder:/data/two.jsonl")
BENCHMARK_CASES = [
    # what differs in run.json, where the questions come from now, what is said
    ({}, MINE, ""),
    ({}, TWO, ""),  # the same questions, moved
    ({"limit": 100}, TWO, "another run: limit was not set, now 100"),
    ({"benchmark_fingerprint": "a2"}, TWO, "the answers to folder:/data/mine.jsonl, not to folder:/data/two.jsonl"),
    (
        {"benchmark_fingerprint": "a2", "limit": 100},
        TWO,
        "the answers to folder:/data/mine.jsonl, not to folder:/data/two.jsonl; limit was not set, now 100",
    ),
    (
        {"benchmark_fingerprint": "a2", "limit": 100, "model": "m", "roles": "c2", "letters": "AB"},
        TWO,
        "the answers to folder:/data/mine.jsonl, not to folder:/data/two.jsonl; model was nano, now m; "
        "limit was not set, now 100",
    ),
    ({"benchmark_fingerprint": "a2"}, MINE, OTHER_QUESTIONS),
    ({"benchmark_fingerprint": "a2"}, None, OTHER_QUESTIONS),
    (
        {"benchmark_fingerprint": "a2", "limit": 5},
        MINE,
        "another run: limit was not set, now 5; the questions, right answers or boxes are others",
    ),
    ({"benchmark_fingerprint": "a2"}, move(split="test"), "another run: split was not set, now test"),
    (
        {"benchmark_fingerprint": "a2", "seed": 3},
        move(images="/photos", skip_bad=2),
        "another run: images was not set, now /photos; skip_bad was 0, now 2; seed was 0, now 3",
    ),
    (
        {"benchmark_fingerprint": "a2", "mode": "direct"},
        move(spec="hf/other", boxes="/boxes.json"),
        "the answers to folder:/data/mine.jsonl, not to hf/other; boxes was not set, now /boxes.json; "
        "mode was p2r, now direct",
    ),
    ({"benchmark": "needles", "benchmark_fingerprint": "a2"}, None, "another run: benchmark was folder, now needles"),
]


@pytest.mark.parametrize(("changes", "is_now", "said"), BENCHMARK_CASES)
def test_another_file_comes_first_and_everything_else_follows(
    changes: dict[str, object], is_now: Origin | None, said: str
) -> None:
    assert explain(changes, is_now) == said


def test_a_folder_from_before_files_were_noted_says_that_the_questions_are_others() -> None:
    assert explain({"benchmark_fingerprint": "a2"}, TWO, was=None) == OTHER_QUESTIONS


def test_a_file_below_the_working_directory_is_named_as_it_would_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    was, is_now = move(spec=str(tmp_path / "mine.jsonl")), move(spec=f"folder:{tmp_path / 'b' / 'two.jsonl'}")
    assert (
        explain({"benchmark_fingerprint": "a2"}, is_now, was) == "the answers to mine.jsonl, not to folder:b/two.jsonl"
    )


VALUES: dict[str, object] = {
    "benchmark": "needles",
    "mode": "direct",
    "model": "p2r-4b",
    "perceiver_model": "p2r-8b",
    "judge_model": "http://judge/v1#m",
    "prompts": "paper",
    "profile": "nano",
    "perceiver_profile": "p2r-8b",
    "family": "qwen2_5_vl",
    "frame": "pixels",
    "max_pixels": 4096,
    "perceiver_new_tokens": 99,
    "reasoner_new_tokens": 77,
    "dtype": "float16",
    "engine_args": {"enforce_eager": True},
    "limit": 100,
    "samples": 8,
    "shuffles": 4,
    "temperature": 1.0,
    "seed": 7,
    "shard": "1/4",
    "share_perception": "never",
    "scored_by": "box",
    "letters": "ABCDE",
    "aggregation": "cycles",
}


def test_every_setting_of_a_run_is_named_with_both_values() -> None:
    """The table of values is complete, so that a new setting needs an entry here."""
    fields = RunSettings.model_fields
    assert set(VALUES) | set(HASHES) >= set(fields) and set(VALUES) <= set(fields)
    for name, value in VALUES.items():
        before = getattr(RunSettings(**BEFORE), name)
        assert explain({name: value}) == (
            f"another run: {name} was {'not set' if before is None else before}, now {value}"
        )


def test_all_settings_at_once_come_in_the_order_of_what_matters() -> None:
    named = {**VALUES, "roles": "c2", "prompt_fingerprint": "b2"}
    said = explain(named).removeprefix("another run: ").split("; ")
    assert [sentence.split()[0] for sentence in said] == [name for name in (*ORDER, *sorted(FACTS)) if name in VALUES]
    facts = explain({**named, "benchmark_fingerprint": "a2"}).split("; ")
    assert [sentence.split()[0] for sentence in facts][-1] == "share_perception"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"roles": "c2"}, "the model, its budget or its decoding is another"),
        ({"prompt_fingerprint": "b2", "roles": "c2"}, "the prompts are worded otherwise"),
        ({"prompts": "paper", "prompt_fingerprint": "b2", "roles": "c2"}, "prompts was release, now paper"),
        ({"max_pixels": 4096, "roles": "c2"}, "max_pixels was not set, now 4096"),
        ({"seed": 7, "roles": "c2"}, "seed was 0, now 7"),
        ({"limit": 9, "roles": "c2"}, "limit was not set, now 9; the model, its budget or its decoding is another"),
        ({"limit": 9, "prompt_fingerprint": "b2", "roles": "c2"}, "limit was not set, now 9; the prompts are worded "
         "otherwise"),
    ],
)  # fmt: skip
def test_a_hash_is_put_into_words_unless_something_that_changes_it_is_named(
    changes: dict[str, object], said: str
) -> None:
    assert explain(changes) == f"another run: {said}"


@pytest.mark.parametrize(
    ("benchmark", "changes", "is_said"),
    [
        ("needles", {"limit": 100}, False),
        ("needles", {"seed": 1}, False),
        ("needles", {"mode": "direct"}, True),
        ("vstar", {"seed": 1}, False),
        ("vstar", {"limit": 100}, True),
        ("folder", {"seed": 1}, True),
    ],
)
def test_a_setting_that_makes_the_questions_explains_that_they_are_others(
    benchmark: str, changes: dict[str, object], is_said: bool
) -> None:
    before = {**BEFORE, "benchmark": benchmark}
    said = list_changes(before | dict.fromkeys(changes), before | changes | {"benchmark_fingerprint": "a2"})
    assert ("the questions, right answers or boxes are others" in said) is is_said


@pytest.mark.parametrize(
    ("settings", "argument", "said"),
    [
        (
            [
                BatchSettings(
                    model=model, perceiver_model=None, mode="p2r", prompts="r", prompt_fingerprint="1", max_pixels=None,
                    frame=frame, dtype=None,
                )
                for model, frame in (("a", None), ("b", "pixels"))
            ],
            "save",
            "model was a, now b; frame was not set, now pixels",
        ),
        (
            [EvidenceSettings(weights=weights, perceiver="1") for weights in "ab"],
            "out",
            "the weights of the frozen role are others",
        ),
        (
            [EvidenceSettings(weights="a", perceiver=perceiver) for perceiver in "12"],
            "out",
            "the prompts, the budget or the decoding of the frozen role are others",
        ),
    ],
)  # fmt: skip
def test_other_folders_say_it_alike_and_name_their_own_argument(
    settings: list[Frozen], argument: str, said: str, tmp_path: Path
) -> None:
    given = {} if argument == "out" else {"hint": f"give another `{argument}`, or remove that folder"}
    TraceStore(tmp_path, settings[0], **given).__exit__(None, None, None)
    with pytest.raises(StorageError) as caught:
        TraceStore(tmp_path, settings[1], **given)
    assert caught.value.message == f"{tmp_path} holds another run: {said}"
    assert caught.value.hint == f"give another `{argument}`, or remove that folder"


def test_a_store_compares_where_the_questions_came_from(tmp_path: Path) -> None:
    TraceStore(tmp_path, RunSettings(**BEFORE), origin=MINE).__exit__(None, None, None)
    write_origin(tmp_path, MINE)
    other = RunSettings(**{**BEFORE, "benchmark_fingerprint": "a2"})
    with pytest.raises(StorageError, match=r"holds the answers to folder:/data/mine.jsonl, not to folder:/data/two"):
        TraceStore(tmp_path, other, origin=TWO)
    (tmp_path / "origin.json").write_text("{}")
    with pytest.raises(StorageError, match="holds another run: the questions, right answers or boxes are others"):
        TraceStore(tmp_path, other, origin=TWO)


def test_other_rows_are_said_before_how_they_were_sampled() -> None:
    before = {"num_rollouts": 4, "role": "answerer", "rows": "/data/a.jsonl"}
    now = {"num_rollouts": 8, "role": "perceiver", "rows": "/data/b.jsonl"}
    assert [text.split()[0] for text in list_changes(before, now)] == ["rows", "role", "num_rollouts"]
