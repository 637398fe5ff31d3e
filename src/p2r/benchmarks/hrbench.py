"""HR-Bench 4K and 8K (Wang et al., 2025): 200 questions each, asked four times with the options rotated.

Parquet or TSV with the columns of DreamMr/HR-Bench. In a TSV an image cell may be the index of the row that holds the
image. Rotations of one question share `cluster`, and `cycle` says which one it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.field_image import IMAGE_COLUMNS, find_image
from p2r.benchmarks.files.rows import Row, RowTable
from p2r.benchmarks.files.table_file import read_table
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.options import find_doubles, read_letter_columns
from p2r.types import LETTERS, ImageSource, Sample

NUM_CYCLES = 4
FACTS_4K = Facts("hrbench_4k", 800, {"single": 400, "cross": 400}, aggregation="cycles")
FACTS_8K = Facts("hrbench_8k", 800, {"single": 400, "cross": 400}, aggregation="cycles")
COLUMNS = ("index", "question", "answer", "category", "cycle_category", "A", "B")
LONGEST_POINTER = 64


def load_hrbench(facts: Facts) -> Callable[[Source], Loaded]:
    """Return the loader for one resolution."""

    def load(source: Source) -> Loaded:
        """Load one file. Raises DataError for another layout or more bad rows than allowed."""
        resolution = facts.name[-2:]
        table = read_table(source.path, split=source.split, containing="" if source.split else resolution)
        table.require(COLUMNS)
        table.require_one(IMAGE_COLUMNS)
        find_own_image = _link_images(table, source.image_root)

        def make(row: Row) -> Sample:
            row.check()
            options = read_letter_columns(row)
            return Sample(
                id=row.key("index"),
                image=find_own_image(row),
                question=row.text("question"),
                options=options,
                answer_form="choice",
                target=row.letter("answer", options),
                benchmark=facts.name,
                category=row.text("category"),
                chance=1 / len(options),
                cycle=row.integer("cycle_category"),
            )

        samples = source.sieve.collect(table.rows, make, lambda row: row.place)
        clustered, differences = _cluster(samples)
        other = "8k" if resolution == "4k" else "4k"
        if other in source.path.name.lower():
            differences.append(f"the name of {source.path.name} says {other}, loaded as {facts.name}")
        return Loaded(clustered, facts, differences + find_doubles(samples) + find_broken_rotations(clustered))

    return load


def find_broken_rotations(samples: Sequence[Sample]) -> list[str]:
    """Say what is wrong with the rotations, a sentence for each question: cycles missing or twice, options that differ,
    a right answer that changes or comes at the same letter twice."""
    clusters: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.cluster and sample.cycle is not None:
            clusters[sample.cluster].append(sample)
    problems: list[str] = []
    for name, rotations in clusters.items():
        cycles = sorted(sample.cycle for sample in rotations if sample.cycle is not None)
        right = {s.options[LETTERS.index(s.target)] for s in rotations if s.target is not None}
        if cycles != list(range(NUM_CYCLES)):
            problems.append(f"question {name} has the cycles {cycles} instead of {list(range(NUM_CYCLES))}")
        elif len({frozenset(sample.options) for sample in rotations}) > 1:
            problems.append(f"question {name} has other options in some cycles")
        elif len(right) > 1:
            problems.append(f"question {name} has other right answers in some cycles: {', '.join(sorted(right))}")
        elif len({sample.target for sample in rotations}) < NUM_CYCLES:
            problems.append(f"question {name} has its right answer at the same letter in two cycles")
    return problems


def _link_images(table: RowTable, root: Path) -> Callable[[Row], ImageSource]:
    by_index = {name: row for row in table.rows if (name := _read_key(row, "index"))}

    def find_own_image(row: Row) -> ImageSource:
        pointer = _read_key(row, "image")
        shown = by_index.get(pointer)
        if shown is None and not pointer.isdecimal():
            return find_image(row, root, *IMAGE_COLUMNS)
        if shown is None or _read_key(shown, "image") in by_index:
            raise row.fail("image", f"{pointer!r} is neither an image nor the index of a row that has one")
        return find_image(shown, root, *IMAGE_COLUMNS)

    return find_own_image


def _read_key(row: Row, name: str) -> str:
    """Return a short text or number of a row; "" where there is none."""
    value = row.values.get(name)
    is_short = row.has(name) and isinstance(value, str | int | float) and len(str(value)) <= LONGEST_POINTER
    return row.key(name) if is_short and name not in row.cells else ""


def _cluster(samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """Rotations together: by index where that fits, else by what they ask."""
    try:
        by_index = all(int(sample.id) % NUM_CYCLES == sample.cycle for sample in samples)
    except ValueError:
        by_index = False
    if by_index:
        return [replace(sample, cluster=str(int(sample.id) // NUM_CYCLES)) for sample in samples], []
    names: dict[tuple[str, str, frozenset[str]], str] = {}
    clustered = [
        replace(
            sample, cluster=names.setdefault((sample.category, sample.question, frozenset(sample.options)), sample.id)
        )
        for sample in samples
    ]
    return clustered, ["cycle_category is not index % 4; rotations were found by question and options"]
