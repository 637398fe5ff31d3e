"""When a step is recorded, replayed, and recorded anew. On a GPU: tests/integration/test_training_gpu.py."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

torch = pytest.importorskip("torch")

from p2r.training.engines.local.replay import Replay  # noqa: E402


class Graph:
    """Counts in the place of CUDA."""

    num_replays = 0

    def replay(self) -> None:
        Graph.num_replays += 1


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    graphs: list[Graph] = []

    @contextmanager
    def record(graph: Graph, *, capture_error_mode: str) -> Generator[None, None, None]:
        assert capture_error_mode == "thread_local"
        graphs.append(graph)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    Graph.num_replays = 0
    return graphs


def test_the_second_call_is_recorded_and_replayed_and_each_further_one_replayed(recorded: list[Graph]) -> None:
    replay, calls = Replay[int](), list[int]()

    def function() -> int:
        calls.append(len(calls))
        return len(calls)

    assert [replay(function, place=16) for _ in range(5)] == [1, 2, 2, 2, 2]
    assert (len(calls), len(recorded), Graph.num_replays) == (2, 1, 4)


def test_memory_that_has_moved_is_recorded_anew(recorded: list[Graph]) -> None:
    replay = Replay[None]()
    for place in (16, 16, 16, 32, 32, 32, 32):
        replay(lambda: None, place)
    assert (len(recorded), Graph.num_replays) == (2, 2 + 3)
    assert recorded[0] is not recorded[1]
