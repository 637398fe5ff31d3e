"""Asking many samples: what is kept, what is asked again, and when it stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.dialogue import Prompt
from p2r.errors import StorageError, TooManyErrors
from p2r.evaluation.asking import Tally, ask_samples, explain_failures
from p2r.images.load import MemoryImage
from p2r.models.scripted import ScriptedModel
from p2r.modes import make_roles
from p2r.prompts import load_prompt_set
from p2r.runs.evaluation import RunSettings
from p2r.runs.store import TraceStore, read_traces
from p2r.types import Sample, Trace

PROMPTS = load_prompt_set()
IMAGE = MemoryImage(Image.new("RGB", (64, 64)), name="image")


def make_samples(count: int) -> list[Sample]:
    return [Sample(id=str(k), image=IMAGE, question=f"What is {k}?") for k in range(count)]


async def ask(folder: Path, samples: list[Sample], model: ScriptedModel, rate: float = 0.1) -> Tally:
    """How far the run came in the end."""
    last: list[Tally] = []
    with TraceStore(folder, RunSettings(), sync_every=2) as store:
        await ask_samples(
            samples, *make_roles("direct", model, PROMPTS), store=store, max_error_rate=rate, on_progress=last.append
        )
    return last[-1]


async def test_every_sample_is_asked_once_and_only_what_is_missing_later(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(prompt: Prompt) -> str:
        asked.append(prompt.text)
        return "A"

    model = ScriptedModel({"reasoner": reply})
    await ask(tmp_path, make_samples(4), model)
    tally = await ask(tmp_path, make_samples(6), model)
    assert (tally.num_kept, tally.num_tried, tally.num_done) == (4, 2, 6)
    assert len(asked) == len(set(asked)) == 6
    assert {trace.sample_id for trace in read_traces(tmp_path / "traces.jsonl")} == set("012345")


async def test_a_run_stops_when_too_much_fails_and_says_why(tmp_path: Path) -> None:
    model = ScriptedModel({"reasoner": ["A"] * 15})
    with pytest.raises(TooManyErrors, match=r"5 of 20 answers failed, all because the replies for") as caught:
        await ask(tmp_path, make_samples(60), model, rate=0.249)
    assert "max_error_rate" in caught.value.hint
    tally = await ask(tmp_path, make_samples(60), ScriptedModel({"reasoner": "A"}))
    assert (tally.num_kept, tally.num_tried, tally.num_failed) == (15, 45, 0)


async def test_a_run_goes_on_at_exactly_the_rate_that_is_allowed(tmp_path: Path) -> None:
    tally = await ask(tmp_path, make_samples(20), ScriptedModel({"reasoner": ["A"] * 15}), rate=0.25)
    assert (tally.num_tried, tally.num_failed) == (20, 5)


async def test_few_failures_do_not_stop_a_run(tmp_path: Path) -> None:
    tally = await ask(tmp_path, make_samples(10), ScriptedModel({"reasoner": ["A"] * 5}))
    assert tally.num_failed == 5
    assert explain_failures(tally.failures, tally.num_tried).startswith("5 of 10 answers failed, all because")


async def test_each_new_trace_is_handed_on_after_it_is_stored(tmp_path: Path) -> None:
    model = ScriptedModel({"reasoner": "A"})
    with TraceStore(tmp_path, RunSettings()) as store:

        def stop_at_the_second(trace: Trace) -> None:
            assert trace.sample_id in store.finished
            if len(store.finished) == 2:
                raise TooManyErrors("enough")

        with pytest.raises(TooManyErrors, match="enough"):
            await ask_samples(
                make_samples(9),
                *make_roles("direct", model, PROMPTS),
                store=store,
                num_at_once=1,
                on_trace=stop_at_the_second,
            )
    assert len(read_traces(tmp_path / "traces.jsonl")) == 2


async def test_stored_traces_are_handed_back_with_the_new_ones(tmp_path: Path) -> None:
    await ask(tmp_path, make_samples(2), ScriptedModel({"reasoner": "A"}))
    with TraceStore(tmp_path, RunSettings()) as store:
        roles = make_roles("direct", ScriptedModel({"reasoner": "A"}), PROMPTS)
        traces = await ask_samples(make_samples(3), *roles, store=store)
    assert sorted(trace.sample_id for trace in traces) == ["0", "1", "2"]


async def test_without_a_folder_the_traces_are_handed_back() -> None:
    traces = await ask_samples(
        make_samples(3), *make_roles("direct", ScriptedModel({"reasoner": "A"}), PROMPTS), judge_for=lambda _: None
    )
    assert sorted(trace.sample_id for trace in traces) == ["0", "1", "2"]


def test_two_processes_cannot_write_the_same_folder(tmp_path: Path) -> None:
    with TraceStore(tmp_path, RunSettings()), pytest.raises(StorageError, match="another process is writing"):
        TraceStore(tmp_path, RunSettings())
    TraceStore(tmp_path, RunSettings()).__exit__(None, None, None)
