"""Large images stay on disk: loading a benchmark costs the memory of a row, not of the file."""

from __future__ import annotations

import base64
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from p2r.benchmarks import load_benchmark

IMAGE_BYTES, NUM_QUESTIONS = 1_500_000, 6


def write_rows(path: Path) -> Path:
    """HR-Bench rows whose images are far larger than everything else (a BMP header, then noise)."""
    names = ["index", "question", "answer", "category", "A", "B", "C", "D", "cycle_category", "image"]
    side = int((IMAGE_BYTES / 3) ** 0.5) // 4 * 4
    header = b"BM" + (54 + side * side * 3).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + side.to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24)
    rows: list[dict[str, object]] = []
    for index in range(4 * NUM_QUESTIONS):
        image = base64.b64encode(header + os.urandom(side * side * 3)).decode()
        options = [f"{letter}{index // 4}" for letter in "wxyz"]
        turned = options[-(index % 4) :] + options[: -(index % 4)] if index % 4 else options
        values = [index, "Where?", "ABCD"[index % 4], "single", *turned, index % 4, image]
        rows.append(dict(zip(names, values, strict=True)))
    with path.open("w") as file:
        if path.suffix == ".json":
            json.dump(rows, file)
        else:
            file.write("\t".join(names) + "\n")
            file.writelines("\t".join(str(row[name]) for name in names) + "\n" for row in rows)
    return path


@pytest.mark.parametrize("kind", ["tsv", "json"])
def test_loading_costs_the_memory_of_a_few_rows(tmp_path: Path, kind: str) -> None:
    path = write_rows(tmp_path / f"hr_bench_8k.{kind}")
    file_bytes = path.stat().st_size
    assert file_bytes > 40e6
    tracemalloc.start()
    benchmark = load_benchmark(f"hrbench_8k:{path}")
    image = benchmark[17].image.load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(benchmark) == 4 * NUM_QUESTIONS and image.width > 500
    assert peak < 8 * IMAGE_BYTES < file_bytes / 3
