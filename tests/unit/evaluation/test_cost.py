"""The clock of a run, and what its answers cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.evaluation.cost import find_speed, measure_cost, tabulate_cost
from p2r.evaluation.scoring import ScoredRun, score_run
from p2r.files import write_lines
from p2r.images.load import MemoryImage
from p2r.runs.clock import CLOCK_FILE, RunClock, Session, read_sessions
from p2r.runs.evaluation import RunSettings, make_run
from p2r.types import Completion, Failure, Perception, Sample, Trace, Usage

IMAGE = MemoryImage(Image.new("RGB", (8, 8)))


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_the_clock_keeps_the_seconds_since_the_first_question(tmp_path: Path) -> None:
    now = Hands()
    with RunClock(tmp_path, now=now) as clock:
        now.time += 12.5
        clock.count(4)
    assert [(s.seconds, s.num_asked) for s in read_sessions(tmp_path)] == [(12.5, 4)]


def test_the_clock_counts_samples_whose_images_were_altered(tmp_path: Path) -> None:
    with RunClock(tmp_path) as clock:
        clock.count(4, 3)
    assert [session.num_unseen for session in read_sessions(tmp_path)] == [3]
    (tmp_path / CLOCK_FILE).write_text('{"started": "then", "seconds": 1.0, "num_asked": 2}\n')  # before it was counted
    assert [session.num_unseen for session in read_sessions(tmp_path)] == [0]


def test_a_kill_loses_no_more_than_a_second_or_a_hundredth(tmp_path: Path) -> None:
    now = Hands()
    clock = RunClock(tmp_path, now=now).__enter__()
    for count in range(1, 2001):
        now.time += 0.3
        clock.count(count)
        known = read_sessions(tmp_path)[-1].seconds if (tmp_path / CLOCK_FILE).exists() else 0.0
        assert 0.3 * count - known < max(1.0, 0.003 * count) + 0.31
    assert len((tmp_path / CLOCK_FILE).read_text().splitlines()) < 400


def test_calls_that_go_on_add_up(tmp_path: Path) -> None:
    now = Hands()
    for num_asked in (3, 5):
        with RunClock(tmp_path, now=now) as clock:
            now.time += 2.0
            clock.count(num_asked)
    assert sum(session.seconds for session in read_sessions(tmp_path)) == 4.0
    assert sum(session.num_asked for session in read_sessions(tmp_path)) == 8


def test_a_call_that_asks_nothing_leaves_no_mark(tmp_path: Path) -> None:
    with RunClock(tmp_path) as clock:
        clock.count(0)
    assert read_sessions(tmp_path) == ()


def test_a_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    write_lines(tmp_path / CLOCK_FILE, [Session(started="a", seconds=3, num_asked=2)])
    with (tmp_path / CLOCK_FILE).open("a") as file:
        file.write('{"started":"a","sec')
    assert read_sessions(tmp_path) == (Session(started="a", seconds=3, num_asked=2),)


def reply(
    visual: int, generated: int | None, *, reused: bool = False, earlier: tuple[Completion, ...] = ()
) -> Completion:
    usage = Usage(visual_tokens=(visual,), prompt_tokens=visual + 10, generated_tokens=generated)
    return Completion(
        text="<answer>it</answer>",
        finish_reason="stop",
        model="m",
        usage=usage,
        seconds=0.5,
        reused="cache" if reused else "",
        earlier=earlier,
    )


def make_scored(*traces: tuple[Completion | None, Completion | None], wall_s: float | None = None) -> ScoredRun:
    samples = [Sample(id=str(k), image=IMAGE, question="?", target="it") for k in range(len(traces))]
    walked = [
        Trace(
            sample_id=str(k),
            image="memory",
            question="?",
            target="it",
            perception=Perception(source="m", boxes=(), completion=looking),
            reasoning=answer,
            failure=None if answer else Failure(stage="reason", kind="ModelError", message="broken"),
        )
        for k, (looking, answer) in enumerate(traces)
    ]
    return score_run(make_run(samples, walked, RunSettings(mode="p2r"), wall_s=wall_s))


def test_every_call_of_a_stage_counts() -> None:
    run = make_scored((reply(100, 5, earlier=(reply(40, 1), reply(60, 1))), reply(200, 20)))
    looking, whole = measure_cost(run.rows, "perceiver"), measure_cost(run.rows)
    assert (looking.num_calls, looking.visual_tokens, looking.generated_tokens) == (3, 200, 7)
    assert (whole.num_calls, whole.visual_tokens, whole.prompt_tokens, whole.tokens) == (4, 400, 440, 467)


def test_what_failed_is_no_part_of_the_mean() -> None:
    run = make_scored((reply(100, 5), reply(100, 5)), (reply(900, 5), None))
    assert measure_cost(run.rows).visual_tokens == 200


def test_a_reply_that_does_not_say_its_tokens_is_left_out_of_their_mean_and_not_counted_as_none() -> None:
    run = make_scored((reply(100, 5), reply(100, None)), (reply(100, 5), reply(100, 15)))
    assert measure_cost(run.rows).generated_tokens == 20
    assert measure_cost(make_scored((None, reply(1, None))).rows).generated_tokens is None


def test_reused_replies_count_as_asked_and_are_told_apart() -> None:
    cost = measure_cost(make_scored((reply(100, 5, reused=True), reply(100, 5))).rows)
    assert (cost.num_calls, cost.num_reused, cost.visual_tokens) == (2, 1, 200)


def test_speed_is_by_the_wall_clock_over_all_calls_of_the_command() -> None:
    run = make_scored((None, reply(1, 1)), (None, reply(1, 1)), wall_s=4.0)
    assert find_speed(run) == 0.5
    assert "Wall time 4.00 s, 2 samples asked: 0.50 samples/s." in tabulate_cost(run).notes[1]
    assert tabulate_cost(make_scored((None, reply(1, 1)))).notes[1] == "The wall time of this run was not recorded."


@pytest.mark.parametrize(
    ("looks", "names"), [(True, ["perceiver", "reasoner", "both"]), (False, ["perceiver", "reasoner"])]
)
def test_both_stages_are_summed_where_both_ask(looks: bool, names: list[str]) -> None:
    table = tabulate_cost(make_scored((reply(1, 1) if looks else None, reply(1, 1))))
    assert [row[0] for row in table.rows] == names
