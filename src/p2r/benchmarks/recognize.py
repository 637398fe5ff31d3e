"""Which benchmark the files of a path are, told by file names and columns."""

from __future__ import annotations

import re
from pathlib import Path

from p2r.benchmarks.files.table_file import find_kind, find_parts, read_columns
from p2r.benchmarks.folder import is_own
from p2r.benchmarks.mme_realworld import OPTIONS
from p2r.benchmarks.reasonseg import SPLITS
from p2r.benchmarks.row_layouts.layouts import MINI_O3, P2R_FAMILY, recognize_layout
from p2r.benchmarks.row_layouts.load import unknown_layout
from p2r.benchmarks.treebench import TARGETS
from p2r.benchmarks.visualprobe import find_level
from p2r.benchmarks.vstar import is_original_folder
from p2r.benchmarks.zoombench import CROPS

_IS_CHINESE = re.compile(r"(?:realworld|mme|hd)[-_]cn(?![a-z])", re.IGNORECASE)


def recognize(path: Path, split: str | None = None) -> str:
    """Recognize the benchmark's name from its files. Raises DataError when none or more than one fits."""
    if path.is_dir() and is_original_folder(path):
        return "vstar"
    if path.is_dir() and any((path / name).is_dir() for name in SPLITS):
        return "reasonseg"
    if (
        path.is_dir()
        and (annotation := next(iter(path.glob("*.json")), None))
        and annotation.with_suffix(".jpg").exists()
    ):
        return "reasonseg"
    if path.is_dir() and not _has_tables(path) and len(list(path.glob("*.jsonl"))) > 1:
        return "folder"
    file = find_parts(path, split=split)[0]
    columns = read_columns(file)
    if TARGETS in columns or ("treebench" in file.name.lower() and OPTIONS in columns):
        return "treebench"
    if columns & {*CROPS}:
        return "zoombench"
    layout = recognize_layout(columns)
    if layout == MINI_O3 and (level := find_level(file)):
        return f"visualprobe_{level}"
    if layout in P2R_FAMILY:
        return "p2r10k"
    is_json, is_lines = find_kind(file) in (".json", ".jsonl"), find_kind(file) == ".jsonl"
    if is_lines and layout is None and columns >= {"image", "question"}:
        return "folder"
    if "cycle_category" in columns:
        return "hrbench_8k" if "8k" in file.name.lower() else "hrbench_4k"
    if columns >= {"Question_id", "Answer choices"} or "multi-choice options" in columns or "l2-category" in columns:
        if "lite" in str(file).lower():
            return "mme_realworld_lite"
        return "mme_realworld_cn" if _IS_CHINESE.search(str(file)) else "mme_realworld"
    if columns >= {"image", "mask", "image_id"}:
        return "reasonseg"
    if columns >= {"image", "text", "label"} or ("vstar" in file.name.lower() and not is_lines):
        return "vstar"
    if is_own(columns) and not (layout is not None and set(layout.columns) <= columns):
        return "folder"
    if layout is not None:
        return "rows"
    if "question" in columns or (is_json and not columns) or (is_lines and "image" in columns):
        return "folder"  # which says what is wrong
    raise unknown_layout(path, columns)


def _has_tables(folder: Path) -> bool:
    return any(find_kind(file) not in ("", ".jsonl") for file in folder.iterdir())
