"""What tells the evidence of two box sets apart."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from p2r.errors import ImageError
from p2r.evidence import plan_crops
from p2r.roles import ModelPerceiver
from p2r.training.lockstep import LockstepPartner
from p2r.training.memo import EvidenceStore, Memo, Replies, evidence_key
from p2r.types import Box, Completion
from tests.fakes.training import BOX, PROMPTS, BatchScript, CountingImage, make_sample


def make_box(x1: float) -> Box:
    return Box(x1=x1, y1=300, x2=600, y2=600)


def test_boxes_with_equal_corners_but_other_crops_are_other_evidence() -> None:
    size, near, far = (1003, 1003), make_box(199.5), make_box(200.0)
    assert near.to_pixels(*size) == far.to_pixels(*size)
    assert plan_crops(size, [near]).crops != plan_crops(size, [far]).crops
    assert evidence_key(size, [near]) != evidence_key(size, [far])


def test_labels_are_no_part_of_the_evidence() -> None:
    named = make_box(200.0).model_copy(update={"label": "a sail"})
    assert evidence_key((1003, 1003), [named]) == evidence_key((1003, 1003), [make_box(200.0)])


def test_a_memo_can_be_dumped_as_it_was_when_it_was_marked() -> None:
    def say(replies: Replies, text: str) -> None:
        replies.add(text, Completion(text=text, finish_reason="stop", model="m"))
        replies.num_asked += 1

    memo = Memo()
    say(memo, "one")
    say(memo.judged, "yes")
    mark, before = memo.mark(), memo.dump()
    say(memo, "two")
    say(memo.judged, "no")
    memo.find("one")
    assert memo.dump(mark) == before != memo.dump()


async def test_rows_are_looked_at_once_each_and_those_without_an_image_are_left_out(tmp_path: Path) -> None:
    gone = CountingImage("gone.png", fault=ImageError("gone"), num_faults=9)
    rows = [make_sample("a"), make_sample("b"), make_sample("c", image=gone), make_sample("a"), make_sample("d")]
    lockstep = LockstepPartner(BatchScript(lambda prompt: BOX))
    with EvidenceStore(tmp_path, lockstep, ModelPerceiver(lockstep.model, PROMPTS), weights="w") as store:
        found = await store.perceive_all(rows, num_at_once=2)
        again = await store.perceive_all(rows, num_at_once=3)
    assert [*found] == ["a", "b", "d"] and found == again
    assert {name: trace.sample_id for name, trace in found.items()} == {name: name for name in found}
    assert len((tmp_path / "traces.jsonl").read_text().splitlines()) == 3
