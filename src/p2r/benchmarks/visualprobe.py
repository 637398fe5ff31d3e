"""VisualProbe (Mini-o3, 2025): free questions about small things in large images, in three levels.

`val.json` with `images`, `problem`, `solution` and `doc_id`, and a folder `data` of images. The paths begin with the
name that the data set's own folder has on the hub, whatever it is called now.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.field_image import find_image
from p2r.benchmarks.files.rows import Row
from p2r.benchmarks.files.table_file import find_stem, read_table
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.row_layouts.questions import strip_marks
from p2r.benchmarks.solutions import unwrap_solution
from p2r.types import Sample

LEVELS = {"easy": 141, "medium": 268, "hard": 106}
FACTS = {level: Facts(f"visualprobe_{level}", count) for level, count in LEVELS.items()}
LICENSE_NOTE = "license of VisualProbe: CC BY-NC 4.0 (no commercial use)"

_LEVEL = re.compile(r"visual_?probe[_-]?(easy|medium|hard)", re.IGNORECASE)
_OWN_FOLDER = re.compile(r"visual_?probe[^/]*/", re.IGNORECASE)


def find_level(file: Path) -> str | None:
    """Return the level of a file of VisualProbe, from its path or, for a `val.json`, from that of its first image.

    None for other rows, those for training among them. Raises DataError when the file cannot be read.
    """
    stem = find_stem(file)
    if stem.startswith("train"):
        return None
    level = _level_in(file.absolute())
    if level is None and stem == "val":
        level = _level_in([row.values.get("images") for row in read_table(file).rows[:1]])
    return level


def _level_in(text: object) -> str | None:
    found = _LEVEL.findall(str(text))
    return found[-1].lower() if found else None


def load_visualprobe(facts: Facts) -> Callable[[Source], Loaded]:
    """Return the loader for one level."""

    def load(source: Source) -> Loaded:
        """Load one file. Raises DataError for another layout or more bad rows than allowed."""
        table = read_table(source.path, split=source.split)
        table.require(["images", "problem", "solution"])

        def make(row: Row) -> Sample:
            row.check()
            question = strip_marks(row.text("problem"))
            target = unwrap_solution(row.text("solution"))
            if not question or not target:
                raise row.fail("solution" if question else "problem", "empty")
            return Sample(
                id=row.key("doc_id") if row.has("doc_id") else str(row.number - 1),
                image=find_image(_without_own_folder(row, source.image_root), source.image_root, "images"),
                question=question,
                target=target,
                benchmark=facts.name,
            )

        samples = source.sieve.collect(table.rows, make, lambda row: row.place)
        level = _level_in(table.rows[0].values.get("images"))
        is_other = level is not None and f"visualprobe_{level}" != facts.name
        differences = [f"the paths of images say {level}, loaded as {facts.name}"] if is_other else []
        return Loaded(samples, facts, differences, [LICENSE_NOTE])

    return load


def _without_own_folder(row: Row, root: Path) -> Row:
    """Return the row with the image's path from the folder that holds it now, where the path names the hub's."""
    value = row.values.get("images")
    paths = cast("list[object]", value) if isinstance(value, list) else [value]
    shortened = [
        path[match.end() :]
        if isinstance(path, str) and (match := _OWN_FOLDER.match(path)) and not (root / path).exists()
        else path
        for path in paths
    ]
    return replace(row, values={**row.values, "images": shortened})
