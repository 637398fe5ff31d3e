"""Measure the peak memory of `p2r eval` on many 8K images.

    python -m benchmarks.memory_eval [--num-images 200] [--server] [--num-at-once 32]

Writes different synthetic 8K JPEGs and runs the command on them in its own process: with a scripted model or, with
--server, over HTTP against tests/fakes/mock_server.py, where images are encoded and sent as well. Prints the peak
resident memory of the process, and fails when it is 2 GB or more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (7680, 4320)
LIMIT_BYTES = 2_000_000_000
REPLIES = {
    "perceiver": '[{"bbox_2d": [100, 100, 300, 300], "label": "a"}, {"bbox_2d": [500, 500, 800, 800], "label": "b"}, '
    '{"bbox_2d": [700, 100, 760, 180], "label": "c"}]',
    "reasoner": "<think>Looked.</think><answer>A</answer>",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--num-images", type=int, default=200, help="number of images, each asked about once (default 200)"
    )
    parser.add_argument("--server", action="store_true", help="ask over HTTP, against the mock server")
    parser.add_argument("--num-at-once", type=int, default=None, help="as in `p2r eval`, with the same default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        questions = write_questions(Path(folder), arguments.num_images)
        replies = Path(folder) / "replies.json"
        replies.write_text(json.dumps(REPLIES))
        model = f"scripted:{replies}"
        if arguments.server:
            with serve("--slowdown", "0.2") as url:
                report(questions, f"{url}#mock", arguments.num_at_once)
        else:
            report(questions, model, arguments.num_at_once)


def report(questions: Path, model: str, num_at_once: int | None) -> None:
    out = questions.parent / "runs"
    command = [sys.executable, "-m", "p2r", "eval", f"folder:{questions}", "--model", model, "--out", str(out)]
    command += [] if num_at_once is None else ["--num-at-once", str(num_at_once)]
    began = time.perf_counter()
    peak_bytes = measure_peak(command)
    num_traces = sum(1 for _ in (out / "folder" / "p2r" / "traces.jsonl").open())
    print(
        f"{num_traces} samples of {SIZE[0]} x {SIZE[1]} in {time.perf_counter() - began:.0f} s: "
        f"peak {peak_bytes / 1e9:.2f} GB"
    )
    if peak_bytes >= LIMIT_BYTES:
        sys.exit(f"the peak is {peak_bytes / 1e9:.2f} GB; it should stay under {LIMIT_BYTES / 1e9:.0f} GB")


def measure_peak(command: list[str]) -> int:
    """Run a command and return the peak resident memory of its process in bytes (Linux)."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return usage.ru_maxrss * 1024


def write_questions(folder: Path, num_images: int) -> Path:
    """Write one question about each of many different images."""
    rng = np.random.default_rng(0)
    soft = rng.integers(0, 256, (54, 96, 3), dtype=np.uint8)
    image = Image.fromarray(soft).resize(SIZE, Image.Resampling.BICUBIC)
    rows: list[str] = []
    for number in range(num_images):
        patch = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize((640, 640), 0)
        image.paste(patch, tuple(int(v) for v in rng.integers(0, (SIZE[0] - 640, SIZE[1] - 640))))
        image.save(folder / f"{number}.jpg", quality=85)
        row = {"image": f"{number}.jpg", "question": f"What is it, number {number}?", "options": ["a", "b", "c", "d"]}
        rows.append(json.dumps(row | {"target": "A"}))
    path = folder / "questions.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


@contextmanager
def serve(*options: str) -> Iterator[str]:
    """Run the mock server in its own process; yields its URL."""
    command = [sys.executable, "-m", "tests.fakes.mock_server", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
