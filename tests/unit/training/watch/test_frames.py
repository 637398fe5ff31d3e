"""Boxes of another frame are said once in a run, and counted in every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import pytest

pytest.importorskip("torch")

from p2r.boxes.other_frame import FrameCount
from p2r.training.engines.local.distributed import World
from p2r.training.groups import RolloutStats
from p2r.training.watch.frames import FrameWatch
from p2r.training.watch.metrics import measure_step, sum_stats

Item = TypeVar("Item")


def count(num_replies: int, num_others: int) -> FrameCount:
    return FrameCount(num_replies, Counter({"pixels": num_others} if num_others else {}))


def test_it_is_said_once_when_there_are_enough_replies() -> None:
    watch = FrameWatch()
    assert watch.note(count(16, 16), is_last=False) == ""
    assert watch.note(count(4, 0), is_last=False).startswith("16 of 20 replies with boxes have numbers")
    assert watch.note(count(16, 16), is_last=False) == watch.note(count(16, 16), is_last=True) == ""


def test_a_phase_of_few_replies_says_it_at_its_end_in_terms_of_the_recipe() -> None:
    sentence = FrameWatch().note(count(3, 2), is_last=True)
    assert sentence.startswith("2 of 3 replies") and sentence.endswith('state its frame with model.frame = "pixels".')


def test_a_single_reply_is_a_slip() -> None:
    watch = FrameWatch()
    assert watch.note(count(18, 1), is_last=True) == ""
    assert watch.note(count(2, 1), is_last=False).startswith("2 of 20 replies")


def test_a_later_step_may_be_the_first_with_many() -> None:
    watch = FrameWatch()
    assert watch.note(count(90, 1), is_last=True) == ""
    assert watch.note(count(10, 4), is_last=False).startswith("5 of 100 replies")


def test_a_step_holds_the_counts_of_all_processes() -> None:
    class Two(World):
        """Two processes that counted the same."""

        def gather(self, own: Sequence[Item]) -> list[Item]:
            return [*own, *own]

    own = RolloutStats(num_rollouts=4, frames=count(4, 1))
    stats = sum_stats(own, Two())
    assert (stats.num_rollouts, stats.frames, own.frames) == (4, count(8, 2), count(4, 1))
    step = measure_step("0-perceiver", 1, [], stats, None, 1e-6, {})
    assert (step.num_box_replies, step.num_other_frame) == (8, 2)
