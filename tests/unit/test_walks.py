import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass

import pytest
from PIL import Image

from p2r.errors import ImageError
from p2r.images.load import MemoryImage
from p2r.types import Sample, Trace
from p2r.walks import estimate_bytes, walk_all

IMAGE = MemoryImage(Image.new("RGB", (8, 8)))


def make_samples(count: int) -> list[Sample]:
    return [Sample(id=str(number), image=IMAGE, question="?") for number in range(count)]


def make_trace(sample: Sample) -> Trace:
    return Trace(sample_id=sample.id, image="memory", question=sample.question)


async def test_every_sample_is_walked_once() -> None:
    async def walk_one(sample: Sample) -> Trace:
        await asyncio.sleep(0)
        return make_trace(sample)

    traces = [trace async for trace in walk_all(make_samples(20), walk_one, num_at_once=3)]
    assert sorted(int(trace.sample_id) for trace in traces) == list(range(20))


async def test_traces_come_as_they_finish() -> None:
    gates = {str(number): asyncio.Event() for number in range(3)}

    async def walk_one(sample: Sample) -> Trace:
        await gates[sample.id].wait()
        return make_trace(sample)

    order: list[str] = []
    gates["1"].set()
    async for trace in walk_all(make_samples(3), walk_one, num_at_once=3):
        order.append(trace.sample_id)
        gates["2" if trace.sample_id == "1" else "0"].set()
    assert order == ["1", "2", "0"]


async def test_no_more_than_the_given_number_are_in_flight_and_samples_are_drawn_lazily() -> None:
    drawn = in_flight = most = 0

    def draw() -> Iterator[Sample]:
        nonlocal drawn
        for sample in make_samples(10):
            drawn += 1
            yield sample

    async def walk_one(sample: Sample) -> Trace:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0)
        in_flight -= 1
        return make_trace(sample)

    async with aclosing(walk_all(draw(), walk_one, num_at_once=2)) as traces:
        await anext(traces)
        assert drawn <= 4
        async for _ in traces:
            pass
    assert most == 2


async def test_closing_cancels_what_is_in_flight() -> None:
    cancelled: list[str] = []

    async def walk_one(sample: Sample) -> Trace:
        if sample.id == "0":
            return make_trace(sample)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(sample.id)
            raise
        return make_trace(sample)

    async with aclosing(walk_all(make_samples(3), walk_one, num_at_once=3)) as traces:
        await anext(traces)
    assert sorted(cancelled) == ["1", "2"]


async def test_a_bug_in_one_walk_is_raised_and_ends_the_others() -> None:
    async def walk_one(sample: Sample) -> Trace:
        if sample.id == "1":
            raise ZeroDivisionError
        await asyncio.Event().wait()
        return make_trace(sample)

    with pytest.raises(ZeroDivisionError):
        async for _ in walk_all(make_samples(4), walk_one, num_at_once=2):
            pass


async def test_no_samples_give_no_traces() -> None:
    async def walk_one(sample: Sample) -> Trace:
        return make_trace(sample)

    assert [trace async for trace in walk_all([], walk_one)] == []


@dataclass(frozen=True)
class SizedImage:
    """An image of which only the size matters."""

    size: tuple[int, int]
    uri: str = "sized"

    def load(self) -> Image.Image:
        raise NotImplementedError

    def read_size(self) -> tuple[int, int]:
        if 0 in self.size:
            raise ImageError("broken")
        return self.size


@pytest.mark.parametrize(("size", "expected"), [((7680, 4320), 6), ((1000, 1000), 20), ((40_000, 40_000), 1)])
async def test_fewer_large_images_are_under_way(size: tuple[int, int], expected: int) -> None:
    in_flight = 0
    go_on = asyncio.Event()

    async def walk_one(sample: Sample) -> Trace:
        nonlocal in_flight
        in_flight += 1
        await go_on.wait()
        return make_trace(sample)

    samples = [Sample(id=str(number), image=SizedImage(size), question="?") for number in range(40)]
    budget = 6 * estimate_bytes(Sample(id="8K", image=SizedImage((7680, 4320)), question="?"))

    async def walk() -> list[Trace]:
        return [trace async for trace in walk_all(samples, walk_one, num_at_once=20, most_image_bytes=budget)]

    walking = asyncio.ensure_future(walk())
    while in_flight < expected:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)  # time for one too many
    assert in_flight == expected
    go_on.set()
    assert sorted(int(trace.sample_id) for trace in await walking) == list(range(40))


def test_a_image_of_unknown_size_weighs_nothing() -> None:
    assert estimate_bytes(make_samples(1)[0]) == 0
    assert estimate_bytes(Sample(id="0", image=SizedImage((0, 0)), question="?")) == 0
