"""Batch the prompts of concurrent callers for one device: collect jobs, run them in one thread, return the results.

A lone call waits about two milliseconds for others. While a batch runs, the next one collects. A batch holds jobs of
one key (the same decoding): the longest-waiting job, then those nearest to it in length, so that padding stays small
and no job starves. A batch that fails is halved until the failing job is alone, so that each error reaches its own
caller. One for which the device has no room is run again, with half as many jobs at a time.

Callers may use different event loops (a notebook, a thread of a server); the worker is a plain thread that ends when
idle.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Key = TypeVar("Key")
Result = TypeVar("Result")

QUIET_S = 0.002
"""A batch starts when no job has arrived for this long and none is being prepared."""
GATHER_S = 0.25
"""A batch waits no longer than this for jobs that are still being prepared."""
IDLE_S = 5.0
LONGEST_EXIT_S = 30.0
"""The seconds that a process that ends waits for a batch that is being served."""


class OutOfRoomError(Exception):
    """So many jobs at a time do not fit on the device. `run` raises it; there are fewer from then on."""


@dataclass(eq=False, slots=True)
class _Entry(Generic[Key, Job, Result]):
    key: Key
    job: Job
    length: int
    future: Future[Result]


_BATCHERS: weakref.WeakSet[MicroBatcher[Any, Any, Any]] = weakref.WeakSet()


@atexit.register
def _finish_batches() -> None:
    """Let torch return before the interpreter ends: a thread that is killed inside it aborts the process."""
    for batcher in list(_BATCHERS):
        batcher.finish_batch()


class MicroBatcher(Generic[Key, Job, Result]):
    """Collects jobs and runs them in batches.

    run: turns jobs of one key into as many results, in order, from at most `batch_size` at a time; called in one thread
        at a time. Its third argument tells whether every caller has gone, so that it may stop early (its results are
        then ignored).
    length: a job's length, for bucketing.
    batch_size: most jobs at a time; halved for good when `run` raises OutOfRoomError.
    """

    def __init__(
        self,
        run: Callable[[Key, Sequence[Job], Callable[[], bool]], Sequence[Result]],
        *,
        length: Callable[[Job], int],
        batch_size: int,
    ) -> None:
        self._run = run
        self._length = length
        self.batch_size = batch_size
        self._changed = threading.Condition()
        self._waiting: list[_Entry[Key, Job, Result]] = []
        self._num_preparing = 0
        self._worker: threading.Thread | None = None
        self._serving = threading.Lock()
        _BATCHERS.add(self)

    async def submit(self, key: Key, prepare: Callable[[], Job]) -> Result:
        """Prepare a job in a thread, run it in a batch, and return its result or raise its error.

        A caller that is cancelled leaves the batch; when all have left, the batch may stop.
        """
        with self._changed:
            self._num_preparing += 1
        try:
            job = await asyncio.to_thread(prepare)
        except BaseException:
            with self._changed:
                self._num_preparing -= 1
                self._changed.notify()
            raise
        entry = _Entry[Key, Job, Result](key, job, self._length(job), Future())
        with self._changed:
            self._num_preparing -= 1
            self._waiting.append(entry)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="p2r-batches", daemon=True)
                self._worker.start()
            self._changed.notify()
        return await asyncio.wrap_future(entry.future)

    def run_all(
        self, key: Key, jobs: Sequence[Job], abandoned: Callable[[], bool] = lambda: False
    ) -> list[Result | BaseException]:
        """Run jobs in the calling thread, longest first, all in one call, so that results depend only on the jobs.

        Not to be used at the same time as `submit`: nothing keeps the two apart.

        Args:
            abandoned: once it returns True, nobody wants the results.

        Returns:
            The result or the error of each job, in order; a CancelledError for those that were abandoned.
        """
        entries = [_Entry[Key, Job, Result](key, job, self._length(job), Future()) for job in jobs]
        self._serve(sorted(entries, key=lambda entry: -entry.length), abandoned)
        if abandoned():
            return [CancelledError() for _ in jobs]
        return [entry.future.exception() or entry.future.result() for entry in entries]

    def _work(self) -> None:
        while batch := self._next_batch():
            with self._serving:
                self._serve(batch)

    def finish_batch(self) -> None:
        """Wait until the batch that is being served has ended, for at most LONGEST_EXIT_S."""
        if self._serving.acquire(timeout=LONGEST_EXIT_S):
            self._serving.release()

    def _next_batch(self) -> list[_Entry[Key, Job, Result]]:
        """Wait for jobs, and return a batch of them; [] ends the worker after a while without jobs."""
        with self._changed:
            while True:
                if not self._changed.wait_for(lambda: self._waiting, timeout=IDLE_S):
                    self._worker = None
                    return []
                self._gather()
                self._waiting = [entry for entry in self._waiting if not entry.future.cancelled()]
                if self._waiting:
                    break
            first = self._waiting[0]
            peers = [entry for entry in self._waiting if entry.key == first.key]
            peers.sort(key=lambda entry: abs(entry.length - first.length))
            batch = peers[: self.batch_size]
            chosen = set(batch)
            self._waiting = [entry for entry in self._waiting if entry not in chosen]
            return batch

    def _gather(self) -> None:
        """Wait while jobs like the first keep arriving. Called with the lock held, which waiting releases."""
        key, deadline = self._waiting[0].key, time.monotonic() + GATHER_S
        while sum(entry.key == key for entry in self._waiting) < self.batch_size:
            num_seen = len(self._waiting)
            patience = deadline - time.monotonic() if self._num_preparing else QUIET_S
            if patience <= 0:
                return
            self._changed.wait(patience)
            if len(self._waiting) == num_seen and not self._num_preparing:
                return

    def _serve(self, batch: list[_Entry[Key, Job, Result]], abandoned: Callable[[], bool] = lambda: False) -> None:
        def is_left() -> bool:
            return abandoned() or all(entry.future.cancelled() for entry in batch)

        if is_left():
            return
        num_at_once = min(self.batch_size, len(batch))
        try:
            results = self._run(batch[0].key, [entry.job for entry in batch], is_left)
        except BaseException as error:
            half = (len(batch) + 1) // 2
            if isinstance(error, OutOfRoomError) and num_at_once > 1:
                self.batch_size = (num_at_once + 1) // 2
                self._serve(batch, abandoned)
            elif len(batch) == 1:
                _settle(batch[0].future, error)
            else:
                self._serve(batch[:half], abandoned)
                self._serve(batch[half:], abandoned)
            return
        for entry, result in zip(batch, results, strict=False):
            _settle(entry.future, result)


def _settle(future: Future[Result], outcome: Result | BaseException) -> None:
    try:
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:  # cancelled in the meantime
        pass
