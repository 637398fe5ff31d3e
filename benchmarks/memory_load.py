"""Measure the memory of a host while a model is loaded for training, in one process and split over several.

    python -m benchmarks.memory_load [--processes 4] [--megabytes 300]

Writes a random Qwen3-VL in two files and loads it as a phase of training does, policy and frozen copy, on the CPU. For
each dtype of the files and of the computation it prints megabytes of the first process: what it holds of its own at
most, how much of the files is mapped into it at most, which processes share and the system may take back at any time,
and what it holds of its own when all is loaded. Beside them is the theory: the parts that are kept, and the largest
part of a tensor. All is counted from before loading, when torch and transformers have been imported.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers

from p2r.config import ModelSettings
from p2r.models.checkpoint import open_checkpoint
from p2r.training.engines.local.distributed import World, join_world, split_model
from p2r.training.engines.local.policy import load_policy, take_snapshot
from p2r.training.plan.memory import count_weights
from tests.fakes.random_model import SIZES, Shape, write_checkpoint

CASES = (("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "bfloat16"), ("float32", "float32"))
"""Dtypes of the files and of the computation."""
SECONDS_BETWEEN = 0.001
MB = 10**6
WIDTHS = (7, 8, 8, 9, 10, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--processes", type=int, default=4, help="that the model is split over")
    parser.add_argument("--megabytes", type=int, default=300, help="of the model in bfloat16, about")
    arguments = parser.parse_args()
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    print(f"{date}, {platform.machine()}, torch {torch.__version__}, transformers {transformers.__version__}")
    print("                                            own, at most      mapped      own, loaded")
    print("files      computation  processes     MB    real  theory  at most      real  theory", flush=True)
    for in_files, computed in CASES:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            run_forked([partial(write, model, arguments.megabytes, getattr(torch, in_files))])
            for num_processes in (1, arguments.processes):
                facts = start(model, Path(folder), computed, num_processes)
                kept, largest = expect(model, computed, num_processes)
                figures = (read_size(model), facts["own"], kept + largest, facts["mapped"], facts["left"], kept)
                print(f"{in_files:<11}{computed:<13}{num_processes:>9}", end="")
                print(
                    *(f"{number / MB:>{width}.0f}" for number, width in zip(figures, WIDTHS, strict=True)),
                    sep="",
                    flush=True,
                )


def run_forked(tasks: Sequence[Callable[[], None]]) -> None:
    """Run each task in a process of its own. They are forks, since what takes longest is to import torch."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=task) for task in tasks]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit("a process failed")


def write(model: Path, megabytes: int, dtype: torch.dtype) -> None:
    write_checkpoint(model, choose_shape(megabytes), dtype=dtype, num_files=2)


def choose_shape(megabytes: int) -> Shape:
    """A model with a vocabulary as large as a fifth of it, as those of the published models about are."""
    num_weights = megabytes * MB // 2
    width = 1024 if megabytes >= 200 else 512  # several layers in either case
    shape = replace(SIZES["2b"], hidden=width, heads=8, key_heads=2, inner=3 * width, vision_hidden=512, vision_depth=4)
    layer = 2 * width * 128 * (8 + 2) + 3 * width * shape.inner
    vocabulary = num_weights // 5 // width
    return replace(shape, vocabulary=vocabulary, vision_heads=8, layers=int(0.65 * num_weights) // layer)


def read_size(model: Path) -> int:
    return sum(path.stat().st_size for path in model.glob("*.safetensors"))


def start(model: Path, folder: Path, dtype: str, num_processes: int) -> dict[str, int]:
    """Load in so many processes; returns what the first one measured."""
    out = folder / f"{num_processes}.json"
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    places = [
        {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        for rank in range(num_processes)
    ]
    run_forked([partial(join_and_measure, place, model, out, dtype) for place in places])
    return json.loads(out.read_text())


def join_and_measure(place: Mapping[str, object], model: Path, out: Path, dtype: str) -> None:
    os.environ.update({name: str(value) for name, value in place.items()})
    with join_world() as world:
        measure(model, out, dtype, world)


def measure(model: Path, out: Path, dtype: str, world: World) -> None:
    settings = ModelSettings.model_validate({"source": str(model), "device": "cpu", "dtype": dtype})
    own, mapped = read_status()
    with watching() as most:
        policy = load_policy(settings, world=world)
        snapshot = take_snapshot(policy, batch_size=1, world=world)
        split_model(policy.model, world, policy.device, policy.dtype)
        world.wait()
    left = read_status()[0]
    assert snapshot.engine.model is not policy.model
    if world.is_first:
        out.write_text(json.dumps({"own": most["own"] - own, "mapped": most["mapped"] - mapped, "left": left - own}))
    world.wait()


@contextmanager
def watching() -> Generator[dict[str, int], None, None]:
    """What this process holds at most within the block."""
    most, is_over = {"own": 0, "mapped": 0}, threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            own, mapped = read_status()
            most.update(own=max(most["own"], own), mapped=max(most["mapped"], mapped))
            time.sleep(SECONDS_BETWEEN)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        is_over.set()
        watcher.join()


def read_status() -> tuple[int, int]:
    """Bytes of this process's own, and of mapped files (Linux)."""
    pairs = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = {name: int(number) for name, number, _ in (pair for pair in pairs if pair[-1] == "kB")}
    return kilobytes["RssAnon:"] * 1024, kilobytes["RssFile:"] * 1024


def expect(model: Path, dtype: str, num_processes: int) -> tuple[int, int]:
    """Bytes of the parts that a process keeps of policy and frozen copy, and of the largest part of a tensor."""
    weights, size = count_weights(open_checkpoint(model), None), 2 if dtype == "bfloat16" else 4
    policy = size if num_processes == 1 else 4
    return (policy + size) * weights.total // num_processes, 4 * weights.largest // num_processes


if __name__ == "__main__":
    main()
