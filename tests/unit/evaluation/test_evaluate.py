"""Asking a benchmark: what is kept, what is asked again, and when it stops."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.dialogue import Prompt
from p2r.errors import ConfigError, StorageError, TooManyErrors
from p2r.evaluation.evaluate import Tally, draw_limit, evaluate, group_neighbors, take_shard
from p2r.images.load import MemoryImage
from p2r.models.scripted import ScriptedModel
from p2r.modes import make_roles
from p2r.prompts import load_prompt_set
from p2r.runs.store import TraceStore, read_traces
from p2r.types import Box, Sample

PROMPTS = load_prompt_set()
IMAGES = [MemoryImage(Image.new("RGB", (64, 64)), name=f"image {k}") for k in range(3)]


def make_samples(count: int) -> list[Sample]:
    return [
        Sample(
            id=str(k),
            image=IMAGES[k % 3],
            question=f"What is {k}?",
            options=("star", "fish"),
            answer_form="choice",
            target="A",
        )
        for k in range(count)
    ]


async def ask(folder: Path, samples: list[Sample], model: ScriptedModel, rate: float = 0.1) -> Tally:
    with TraceStore(folder, {"mode": "direct"}, sync_every=2) as store:
        return await evaluate(samples, make_roles("direct", model, PROMPTS), store, max_error_rate=rate)


async def test_every_sample_is_asked_once_and_only_what_is_missing_later(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(prompt: Prompt) -> str:
        asked.append(prompt.text)
        return "A"

    model = ScriptedModel({"reasoner": reply})
    await ask(tmp_path, make_samples(4), model)
    tally = await ask(tmp_path, make_samples(6), model)
    assert (tally.num_kept, tally.num_tried, tally.accuracy) == (4, 2, 1.0)
    assert len(asked) == len(set(asked)) == 6
    assert {trace.sample_id for trace in read_traces(tmp_path / "traces.jsonl")} == set("012345")


async def test_a_run_stops_when_too_much_fails_and_says_why(tmp_path: Path) -> None:
    model = ScriptedModel({"reasoner": ["A"] * 15})
    with pytest.raises(TooManyErrors, match=r"5 of 20 answers failed, all because the script's 15 replies") as caught:
        await ask(tmp_path, make_samples(60), model, rate=0.149)
    assert "--max-error-rate" in caught.value.hint
    tally = await ask(tmp_path, make_samples(60), ScriptedModel({"reasoner": "A"}))
    assert (tally.num_kept, tally.num_tried, tally.num_failed) == (15, 45, 0)


async def test_few_failures_do_not_stop_a_run_and_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    tally = await ask(tmp_path, make_samples(10), ScriptedModel({"reasoner": ["A"] * 5}))
    assert (tally.num_judged, tally.num_correct, tally.num_failed) == (5, 5, 5)
    assert tally.explain().startswith("5 of 10 answers failed, all because")


async def test_boxes_are_judged_and_no_answer_is_asked_for_where_a_benchmark_is_scored_by_boxes(tmp_path: Path) -> None:
    gold = Box(x1=100, y1=100, x2=300, y2=300)
    sample = Sample(id="a", image=IMAGES[0], question="the star", gold_boxes=(gold,))
    model = ScriptedModel({"perceiver": '[{"bbox_2d": [100, 100, 300, 290], "label": "x"}]'})
    with TraceStore(tmp_path, {}) as store:
        tally = await evaluate([sample], make_roles("p2r", model, PROMPTS), store, scored_by="box")
        assert tally.num_correct == 1
        trace = store.find(sample)
    assert trace is not None and trace.verdict is not None and trace.verdict.judge == "box@0.5"
    assert (trace.reasoning, trace.answer) == (None, None) and trace.evidence is not None


async def test_a_judging_model_is_asked_where_the_words_of_a_free_answer_differ(tmp_path: Path) -> None:
    asked: list[str] = []

    def judge(prompt: Prompt) -> str:
        asked.append(prompt.text)
        return "yes" if "boat" in prompt.text else "no"

    samples = [Sample(id=target, image=IMAGES[0], question="?", target=target) for target in ("boat", "car", "ship")]
    model = ScriptedModel({"reasoner": "<answer>The ship.</answer>", "judge": judge}, name="judge")
    with TraceStore(tmp_path, {}) as store:
        roles = make_roles("thinking", model, PROMPTS)
        tally = await evaluate(samples, roles, store, judge_model=model, judge_prompts=PROMPTS)
        verdicts = {sample.id: trace.verdict for sample in samples if (trace := store.find(sample))}
    assert (tally.num_judged, tally.num_correct, len(asked)) == (3, 2, 2)
    assert {id: verdict.judge for id, verdict in verdicts.items() if verdict} == {
        "boat": "model:judge",
        "car": "model:judge",
        "ship": "text",
    }
    assert {id: verdict.completion is not None for id, verdict in verdicts.items() if verdict} == {
        "boat": True,
        "car": True,
        "ship": False,
    }


async def test_a_judging_model_that_says_neither_is_a_failure_and_no_wrong_answer(tmp_path: Path) -> None:
    model = ScriptedModel({"reasoner": "<answer>ship</answer>", "judge": "perhaps"})
    sample = Sample(id="a", image=IMAGES[0], question="?", target="boat")
    with TraceStore(tmp_path, {}) as store:
        tally = await evaluate([sample], make_roles("thinking", model, PROMPTS), store, judge_model=model)
    assert (tally.num_judged, tally.num_failed) == (0, 1)
    assert "neither yes nor no" in tally.explain()


def test_two_processes_cannot_write_the_same_folder(tmp_path: Path) -> None:
    with TraceStore(tmp_path, {}), pytest.raises(StorageError, match="another process is writing"):
        TraceStore(tmp_path, {})
    TraceStore(tmp_path, {}).__exit__(None, None, None)


def test_rows_of_one_image_stand_together() -> None:
    order = [sample.image.uri for sample in group_neighbors(make_samples(9))]
    assert order == ["image 0"] * 3 + ["image 1"] * 3 + ["image 2"] * 3


def rotations(num_questions: int) -> list[Sample]:
    return [
        Sample(id=f"{q}.{cycle}", image=IMAGES[0], question="?", cluster=f"q{q}", cycle=cycle)
        for cycle in range(4)
        for q in range(num_questions)
    ]


def test_shards_are_disjoint_whole_and_keep_questions_together() -> None:
    samples = rotations(7)
    shards = [take_shard(samples, f"{k}/3") for k in (1, 2, 3)]
    assert sorted(s.id for shard in shards for s in shard) == sorted(s.id for s in samples)
    clusters = [{sample.cluster for sample in shard} for shard in shards]
    assert sum(map(len, clusters)) == 7


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(shard: str) -> None:
    with pytest.raises(ConfigError, match="is no shard"):
        take_shard(make_samples(3), shard)


def test_a_limit_draws_whole_questions_in_the_order_of_the_benchmark() -> None:
    samples = rotations(10)
    drawn = draw_limit(samples, 10, seed=1)
    assert len(drawn) == 8 and len({sample.cluster for sample in drawn}) == 2
    assert drawn == [sample for sample in samples if sample in drawn]
    assert drawn == draw_limit(samples, 10, seed=1) != draw_limit(samples, 10, seed=2)
