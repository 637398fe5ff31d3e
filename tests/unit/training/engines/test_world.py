"""The processes of a run: joined by us, or by another launcher, whose group is used and left as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from p2r.errors import ConfigError
from p2r.training.engines.local.distributed import World, join_world


@pytest.fixture(autouse=True)
def no_group_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def make_group(backend: str) -> None:
    dist.init_process_group(backend, rank=1, world_size=2, store=FakeStore())


def test_without_a_launcher_a_process_is_alone() -> None:
    with join_world() as world:
        assert world == World()
        assert not dist.is_initialized()


def test_a_group_that_exists_is_used_and_left() -> None:
    make_group("cpu:fake,cuda:fake")
    with join_world() as world:
        assert (world.rank, world.size) == (1, 2)
    assert dist.is_initialized()


def test_a_group_that_exists_is_left_after_an_error() -> None:
    make_group("cpu:fake,cuda:fake")
    with pytest.raises(KeyError), join_world():
        raise KeyError("a step")
    assert dist.is_initialized()


def test_a_group_without_the_cpu_is_refused() -> None:
    make_group("cuda:fake")
    with pytest.raises(ConfigError, match="no backend for the CPU: cuda:fake") as caught, join_world():
        pass
    assert "TorchConfig" in caught.value.hint
    assert dist.is_initialized()


@pytest.mark.parametrize(("num_gpus", "expected"), [(8, 5), (1, 0)])
def test_each_process_takes_its_own_gpu_whatever_the_launcher_shows_it(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, expected: int
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", "5")
    make_group("cpu:fake,cuda:fake")
    with join_world() as world:
        assert world.local_rank == expected
    assert taken == [expected]


def test_a_group_of_our_own_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def join(backend: str, **options: object) -> None:
        asked.update(options, backend=backend)
        make_fake("fake", rank=1, world_size=2, store=FakeStore())

    make_fake = dist.init_process_group
    monkeypatch.setattr(dist, "init_process_group", join)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with join_world() as world:
        assert world == World(rank=1, size=2)
    assert not dist.is_initialized()
    assert asked["backend"] == "gloo" and asked["device_id"] is None
