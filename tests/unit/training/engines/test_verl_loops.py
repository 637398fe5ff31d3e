"""The agent loops that verl's workers run, on a stand-in for verl's classes, with replies that are known."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip("torch")

from p2r.config import parse_recipe
from p2r.errors import ImageError, P2RError
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.nano import BASE_CHECKPOINT
from p2r.training.engines.verl.job import Job, Record, hand_over, take_over
from p2r.types import Box, Perception, Trace
from tests.fakes.chat_server import chat_reply, error_reply, serve
from tests.fakes.training import BOX, OTHER_BOX, RIGHT, WRONG, CountingImage, make_sample

STAND_INS = Path(__file__).parents[3] / "fakes" / "stand_ins"
UNLABELED = '[{"bbox_2d": [100, 200, 300, 400]}]'
PERCEIVED = Perception(source="server", boxes=(Box(x1=100, y1=200, x2=300, y2=400),))
STEP = 3


class Sampler:
    """verl's client. The replies to the policy's own evidence are `answers`, if there are any.

    num_waited_for: requests that have come before the first is answered.
    """

    def __init__(self, replies: list[str], answers: list[str] | None = None, *, num_waited_for: int = 0) -> None:
        self._encoder, self._replies, self._answers = PromptEncoder(open_checkpoint(BASE_CHECKPOINT)), replies, answers
        self._counts = {True: count(), False: count()}
        self.asked: list[dict[str, object]] = []
        self.ids: set[str] = set()
        self._num_waited_for, self._everyone = num_waited_for, asyncio.Event()

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, object], image_data: list[object]
    ) -> SimpleNamespace:
        self.ids.add(request_id)
        self.asked.append(
            {**sampling_params, "num_images": len(image_data), "prompt": self._encoder.decode(prompt_ids)}
        )
        if len(self.asked) >= self._num_waited_for:
            self._everyone.set()
        await asyncio.wait_for(self._everyone.wait(), 20)
        is_answer = self._answers is not None and len(image_data) > 1
        script = self._answers if is_answer and self._answers else self._replies
        text = script[next(self._counts[is_answer]) % len(script)]
        # A reply without an end was cut off.
        end = [] if text == "" else [self._encoder.end_token_ids[0]]
        ids = [*self._encoder.tokenize(text or "A"), *end]
        return SimpleNamespace(token_ids=ids, log_probs=[-0.5] * len(ids), extra_fields={"min_global_steps": 2})


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(sys, "path", [str(STAND_INS), *sys.path])
    name = "p2r.training.engines.verl.loops"
    yield import_module(name)
    for each in [each for each in sys.modules if each.partition(".")[0] == "verl" or each == name]:
        del sys.modules[each]


@pytest.fixture
def url() -> Iterator[str]:
    """Of a frozen role that answers B, and fails where the question says so."""
    with serve(lambda text, _: error_reply(400, "broken") if "broken" in text else chat_reply(RIGHT)) as base:
        yield f"{base}#stub"


def make_job(folder: Path, url: str, **tables: object) -> Path:
    recipe = parse_recipe(
        {
            "out": str(folder),
            "model": {"source": "nano-base", "device": "cpu", "dtype": "float32", "max_pixels": 65536},
            "data": {"num_rows": 3},
            "rollout": {"group_size": 4, "prompts_per_step": 4, "max_new_tokens": {"perceiver": 99, "reasoner": 77}},
            "partner": {"kind": "endpoint", "url": url, "image_check": "never", "launch": "no-such-program"},
            **tables,
        }
    )
    lost = CountingImage(fault=ImageError("no image"), num_faults=99)
    rows = [make_sample("s1"), make_sample("s2", question="Is it broken?"), make_sample("s3", image=lost)]
    twice = PERCEIVED.model_copy(update={"boxes": (*PERCEIVED.boxes, Box(x1=500, y1=500, x2=600, y2=600))})
    seen = {"s1": PERCEIVED, "s2": twice}
    evidence = {name: Trace(sample_id=name, image="", question="", perception=seen[name]) for name in seen}
    path = folder / "job.pickle"
    hand_over(path, Job(recipe, recipe.phases()[0], folder, BASE_CHECKPOINT, rows, evidence=evidence))
    return path


Outputs = list[list[SimpleNamespace] | str]


async def run_rows(loops: ModuleType, path: Path, places: list[int], sampler: Sampler) -> list[Outputs]:
    """The outputs of the loops of rows, as verl starts them; of those that raise, what they say."""
    config = SimpleNamespace(train_files=str(path))
    rows = loops.VerlRows(config, tokenizer=None, processor=None)

    async def run(place: int, number: int) -> list[SimpleNamespace]:
        loop, given = loops.GroupLoop(sampler, config), {"global_steps": STEP, **rows[place]}
        return await loop.run({"temperature": 0.5}, uid=f"u{place}", session_id=number, **given)

    async def run_all(place: int) -> Outputs:
        found = await asyncio.gather(*(run(place, number) for number in range(4)), return_exceptions=True)
        assert all(isinstance(each, list | P2RError) for each in found), found
        return [str(each) if isinstance(each, BaseException) else each for each in found]

    found = await asyncio.gather(*(run_all(place) for place in places))
    assert not loops.open_worker(path).rolling  # nothing is kept of a row that is done
    await loops.open_worker(path)._opened.__aexit__(None, None, None)
    return found


async def run_row(loops: ModuleType, path: Path, place: int, sampler: Sampler) -> Outputs:
    [outputs] = await run_rows(loops, path, [place], sampler)
    return outputs


def rewards_of(outputs: Outputs) -> list[list[float] | str]:
    return [each if isinstance(each, str) else [one.reward_score for one in each] for each in outputs]


def images_of(outputs: Outputs) -> list[list[int] | str]:
    """The number of images of each output."""
    return [
        each if isinstance(each, str) else [len(one.multi_modal_data["images"]) for one in each] for each in outputs
    ]


def records(path: Path) -> dict[int, Record]:
    return {int(each.stem): take_over(each) for each in take_over(path).records(STEP).glob("*.pickle")}


def test_rows_are_those_of_the_job(loops: ModuleType, tmp_path: Path) -> None:
    rows = loops.VerlRows(SimpleNamespace(train_files=make_job(tmp_path, "http://localhost:1/v1")), max_samples=-1)
    assert len(rows) == 3 and rows[1]["index"] == 1
    assert rows[1]["raw_prompt"] == [{"role": "user", "content": "Is it broken?"}]
    assert import_module("verl.experimental.agent_loop.agent_loop").registered[rows[1]["agent_name"]] is loops.GroupLoop


async def test_each_loop_gives_a_rollout_of_its_row(loops: ModuleType, tmp_path: Path, url: str) -> None:
    path = make_job(tmp_path, url, schedule=[{"role": "perceiver", "steps": 3}])
    sampler = Sampler([BOX, UNLABELED, OTHER_BOX, ""])
    outputs = await run_row(loops, path, 0, sampler)
    assert rewards_of(outputs) == [[1.0], [0.0], [1.0], [1.0]]  # the second names no label; the last was cut off
    first = outputs[0][0]
    assert not isinstance(first, str)
    width, height = first.multi_modal_data["images"][0].size
    assert width * height <= 65536  # `model.max_pixels`
    assert first.response_mask == [1] * len(first.response_ids) and len(first.multi_modal_data["images"]) == 1
    assert first.response_logprobs == [-0.5] * len(first.response_ids)
    assert first.num_turns == 2  # verl fails without it
    assert first.extra_fields["min_global_steps"] == 2
    assert set(first.extra_fields["reward_extra_info"]) >= {"format"}
    assert len(sampler.asked) == len(sampler.ids) == 4 and len({each["seed"] for each in sampler.asked}) == 4
    assert all((each["max_tokens"], each["temperature"]) == (99, 0.5) for each in sampler.asked)
    record = records(path)[0]
    [group] = record.facts
    assert [one.ended for one in group.rollouts] == [True, True, True, False]
    assert list(record.outcomes) == [""] * 4 and record.stats.num_partner_calls == 3  # no box: the whole image
    assert [quoted.step for quoted in record.quoted] == [STEP]


async def test_seeds_differ_from_step_to_step(
    loops: ModuleType, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of our own trainer, whose steps are counted from 0."""
    path = make_job(tmp_path, url, schedule=[{"role": "reasoner", "steps": 3}])
    steps = list[int]()
    roll_out = loops.Roller.roll_out

    async def note(self: object, rows: object, step: int) -> object:
        steps.append(step)
        return await roll_out(self, rows, step)

    monkeypatch.setattr(loops.Roller, "roll_out", note)
    await run_row(loops, path, 0, Sampler([RIGHT]))
    assert steps == [STEP - 1]  # once for all loops of the row


async def test_rows_are_rolled_out_beside_each_other(loops: ModuleType, tmp_path: Path, url: str) -> None:
    path = make_job(tmp_path, url, schedule=[{"role": "reasoner", "steps": 3}])
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # as if there were few cores
    outputs = await run_rows(loops, path, [0, 1], Sampler([RIGHT, WRONG], num_waited_for=8))
    assert all(len(each) == 4 and not any(isinstance(one, str) for one in each) for each in outputs)
    assert [*sorted(records(path))] == [0, 1]
    assert [images_of(each) for each in outputs] == [[[2]] * 4, [[3]] * 4]


async def test_a_loop_that_is_cancelled_leaves_those_of_its_row(loops: ModuleType, tmp_path: Path, url: str) -> None:
    path = make_job(tmp_path, url, schedule=[{"role": "reasoner", "steps": 3}])
    config = SimpleNamespace(train_files=str(path))
    loop, given = loops.GroupLoop(Sampler([RIGHT, WRONG]), config), {"uid": "u0", "index": 0, "global_steps": STEP}
    tasks = [asyncio.ensure_future(loop.run({}, session_id=number, **given)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    await loops.open_worker(path)._opened.__aexit__(None, None, None)
    assert [isinstance(each, list) for each in done] == [True, False, True, True]


async def test_a_group_with_one_judged_rollout_is_left_out(loops: ModuleType, tmp_path: Path, url: str) -> None:
    path = make_job(tmp_path, url, schedule=[{"role": "perceiver", "steps": 3}])
    outputs = await run_row(loops, path, 1, Sampler([BOX, UNLABELED, OTHER_BOX, BOX]))
    said = [each.rpartition(": ")[2] for each in outputs if isinstance(each, str)]
    assert said == ["broken", "fewer than two rollouts of its group were judged", "broken", "broken"]
    record = records(path)[1]
    assert [bool(each) for each in record.outcomes] == [True, False, True, True] or sum(map(bool, record.outcomes)) == 3
    assert record.facts[0].is_dropped


async def test_a_reasoner_answers_on_the_evidence_of_the_job(loops: ModuleType, tmp_path: Path, url: str) -> None:
    path = make_job(tmp_path, url, schedule=[{"role": "reasoner", "steps": 3}])
    sampler = Sampler([RIGHT, WRONG])
    assert rewards_of(await run_row(loops, path, 0, sampler)) == [[1.0], [0.0], [1.0], [0.0]]
    assert all((each["num_images"], each["max_tokens"]) == (2, 77) for each in sampler.asked)
    assert records(path)[0].stats.num_partner_calls == 0


@pytest.mark.parametrize(("place", "is_served", "said"), [(2, True, "no image"), (0, False, "connection refused")])
async def test_a_row_that_fails_is_counted_and_left_out(
    loops: ModuleType, tmp_path: Path, url: str, unused_tcp_port: int, place: int, is_served: bool, said: str
) -> None:
    where = url if is_served else f"http://127.0.0.1:{unused_tcp_port}/v1"
    path = make_job(tmp_path, where, schedule=[{"role": "perceiver", "steps": 3}])
    assert await run_row(loops, path, place, Sampler([BOX])) == ["its row failed"] * 4
    record = records(path)[place]
    assert len(record.outcomes) == 4 and all(said in each for each in record.outcomes)
    assert (record.stats.num_rows, record.stats.num_failed_rows) == (1, 1)
    assert not record.quoted and not record.facts


async def test_boxes_and_the_answer_to_them_share_a_reward(loops: ModuleType, tmp_path: Path, url: str) -> None:
    path = make_job(tmp_path, url, control="joint")
    sampler = Sampler([BOX, UNLABELED, OTHER_BOX, BOX], [RIGHT, WRONG, RIGHT])
    outputs = await run_row(loops, path, 0, sampler)
    assert rewards_of(outputs) == [[1.0, 1.0], [0.0], [0.0, 0.0], [1.0, 1.0]]
    assert images_of(outputs) == [[1, 2], [1], [1, 2], [1, 2]]
