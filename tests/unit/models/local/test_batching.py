"""The micro-batcher, with plain functions in place of a model. Threads are steered with events, not with sleeps."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError

import pytest

from p2r.models.local.batching import MicroBatcher, OutOfRoomError


class Recorder:
    """Runs jobs by turning them into upper case; keeps the batches; can be held at the gate."""

    def __init__(self, fails: Callable[[Sequence[str]], Exception | None] = lambda jobs: None) -> None:
        self.batches: list[tuple[str, list[str]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.saw_abandoned = threading.Event()
        self._fails = fails

    def __call__(self, key: str, jobs: Sequence[str], abandoned: Callable[[], bool]) -> list[str]:
        self.started.set()
        while not self.gate.wait(0.005):
            if abandoned():
                self.saw_abandoned.set()
                return []
        self.batches.append((key, list(jobs)))
        error = self._fails(jobs)
        if error is not None:
            raise error
        return [job.upper() for job in jobs]


def make(recorder: Recorder, batch_size: int = 4) -> MicroBatcher[str, str, str]:
    return MicroBatcher(recorder, length=len, batch_size=batch_size)


def identity(job: str) -> Callable[[], str]:
    return lambda: job


async def submit_all(batcher: MicroBatcher[str, str, str], jobs: Sequence[tuple[str, str]]) -> list[object]:
    calls = (batcher.submit(key, identity(job)) for key, job in jobs)
    return list(await asyncio.gather(*calls, return_exceptions=True))


async def hold(batcher: MicroBatcher[str, str, str], recorder: Recorder) -> asyncio.Task[str]:
    """Start a job and keep the worker inside it."""
    recorder.gate.clear()
    recorder.started.clear()
    task = asyncio.create_task(batcher.submit("hold", identity("hold")))
    await asyncio.to_thread(recorder.started.wait)
    return task


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_concurrent_jobs_share_a_batch_and_get_their_own_results() -> None:
    recorder = Recorder()
    assert await submit_all(make(recorder), [("k", "a"), ("k", "b"), ("k", "c")]) == ["A", "B", "C"]
    assert [sorted(jobs) for _, jobs in recorder.batches] == [["a", "b", "c"]]


async def test_a_lone_job_runs_alone() -> None:
    recorder = Recorder()
    assert await make(recorder).submit("k", identity("a")) == "A"
    assert recorder.batches == [("k", ["a"])]


async def test_a_batch_is_no_larger_than_the_batch_size() -> None:
    recorder = Recorder()
    jobs = [("k", letter) for letter in "abcdefghij"]
    assert await submit_all(make(recorder, batch_size=4), jobs) == list("ABCDEFGHIJ")
    assert max(len(batch) for _, batch in recorder.batches) == 4


async def test_jobs_of_different_keys_never_share_a_batch() -> None:
    recorder = Recorder()
    await submit_all(make(recorder), [("x", "a"), ("y", "b"), ("x", "c"), ("y", "d")])
    assert sorted((key, sorted(jobs)) for key, jobs in recorder.batches) == [("x", ["a", "c"]), ("y", ["b", "d"])]


async def test_jobs_nearest_in_length_to_the_first_go_with_it() -> None:
    recorder = Recorder()
    batcher = make(recorder, batch_size=2)
    held = await hold(batcher, recorder)
    texts = ["aaaa", "b" * 50, "cc", "d" * 49, "eeeee"]
    tasks = []
    for position, text in enumerate(texts):
        tasks.append(asyncio.create_task(batcher.submit("k", identity(text))))
        await until(lambda size=position + 1: len(batcher._waiting) == size)
    recorder.gate.set()
    await asyncio.gather(held, *tasks)
    assert recorder.batches[1:] == [("k", ["aaaa", "eeeee"]), ("k", ["b" * 50, "d" * 49]), ("k", ["cc"])]


async def test_an_error_in_preparing_reaches_only_its_caller() -> None:
    def broken() -> str:
        raise ValueError("too long")

    batcher = make(Recorder())
    results = await asyncio.gather(
        batcher.submit("k", identity("a")), batcher.submit("k", broken), return_exceptions=True
    )
    assert results[0] == "A"
    assert isinstance(results[1], ValueError)


async def test_an_error_in_running_reaches_only_the_job_that_causes_it() -> None:
    recorder = Recorder(lambda jobs: RuntimeError("bad") if "c" in jobs else None)
    results = await submit_all(make(recorder, batch_size=8), [("k", letter) for letter in "abcdef"])
    assert isinstance(results[2], RuntimeError)
    assert [result for result in results if isinstance(result, str)] == ["A", "B", "D", "E", "F"]


async def test_without_room_the_batch_is_halved_and_stays_small() -> None:
    recorder = Recorder(lambda jobs: OutOfRoomError() if min(len(jobs), batcher.batch_size) > 2 else None)
    batcher = make(recorder, batch_size=8)
    jobs = [("k", letter) for letter in "abcdefgh"]
    assert await submit_all(batcher, jobs) == list("ABCDEFGH")
    assert batcher.batch_size == 2
    assert [len(batch) for _, batch in recorder.batches] == [8, 8, 8]  # the same jobs, fewer at a time
    recorder.batches.clear()
    await submit_all(batcher, jobs)
    assert max(len(batch) for _, batch in recorder.batches) == 2


async def test_a_cancelled_job_that_waits_is_not_run() -> None:
    recorder = Recorder()
    batcher = make(recorder)
    held = await hold(batcher, recorder)
    leaving = asyncio.create_task(batcher.submit("k", identity("leaves")))
    staying = asyncio.create_task(batcher.submit("k", identity("stays")))
    await until(lambda: len(batcher._waiting) == 2)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    recorder.gate.set()
    assert await staying == "STAYS"
    await held
    assert ("k", ["stays"]) in recorder.batches


async def test_a_running_batch_learns_that_every_caller_has_left() -> None:
    recorder = Recorder()
    held = await hold(make(recorder), recorder)
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    assert await asyncio.to_thread(recorder.saw_abandoned.wait, 10)


def test_callers_may_live_in_different_event_loops() -> None:
    batcher = make(Recorder())
    results: list[str] = []

    def run(job: str) -> None:
        results.append(asyncio.run(batcher.submit("k", identity(job))))

    threads = [threading.Thread(target=run, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list("ABCD")


async def test_an_idle_worker_ends_and_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2r.models.local.batching.IDLE_S", 0.01)
    batcher = make(Recorder())
    assert await batcher.submit("k", identity("a")) == "A"
    await until(lambda: batcher._worker is None)
    assert await batcher.submit("k", identity("b")) == "B"


def test_jobs_run_at_once_are_ordered_by_length_alone_and_keep_their_places() -> None:
    recorder = Recorder(lambda jobs: ValueError("bad") if "bad" in jobs else None)
    results = make(recorder, batch_size=2).run_all("key", ["a", "bad", "long job", "bb"])
    assert recorder.batches[0][1] == ["long job", "bad", "bb", "a"]
    assert [results[0], results[2], results[3]] == ["A", "LONG JOB", "BB"]
    assert isinstance(results[1], ValueError)


@pytest.mark.parametrize(("num_jobs", "room", "batch_sizes"), [(5, 3, [5, 3]), (7, 2, [7, 4, 2]), (3, 1, [3, 2, 1])])
def test_an_odd_number_without_room_is_halved_upward(num_jobs: int, room: int, batch_sizes: list[int]) -> None:
    tried: list[int] = []

    def fail(jobs: Sequence[str]) -> Exception | None:
        tried.append(batcher.batch_size)
        return OutOfRoomError() if batcher.batch_size > room else None

    batcher = make(Recorder(fail), batch_size=num_jobs)
    jobs = "abcdefg"[:num_jobs]
    assert batcher.run_all("key", list(jobs)) == list(jobs.upper())
    assert tried == batch_sizes


def test_a_job_for_which_there_is_no_room_even_alone_does_not_spoil_the_others() -> None:
    recorder = Recorder(lambda jobs: OutOfRoomError() if "large" in jobs else None)
    batcher = make(recorder, batch_size=2)
    results = batcher.run_all("key", ["a", "large", "bb", "c"])
    assert [results[0], *results[2:]] == ["A", "BB", "C"]
    assert isinstance(results[1], OutOfRoomError)
    assert batcher.batch_size == 1


ENDS_DURING_A_BATCH = """
import asyncio, threading, time
from p2r.models.local.batching import MicroBatcher

started = threading.Event()

def run(key, jobs, abandoned):
    started.set()
    time.sleep(0.5)
    print("the batch has ended", flush=True)
    return jobs

batcher = MicroBatcher(run, length=len, batch_size=1)
threading.Thread(target=lambda: asyncio.run(batcher.submit("key", lambda: "job")), daemon=True).start()
started.wait()
"""


def test_a_process_ends_after_the_batch_that_is_being_served() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS_DURING_A_BATCH], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "the batch has ended\n"), done.stderr


def test_jobs_that_nobody_wants_any_more_are_not_run() -> None:
    recorder = Recorder()
    results = make(recorder, batch_size=1).run_all("key", ["a", "bb", "ccc"], lambda: bool(recorder.batches))
    assert [type(result) for result in results] == [CancelledError] * 3
    assert len(recorder.batches) == 1
