"""Which benchmark a file or folder holds, told from its names and columns."""

from __future__ import annotations

from pathlib import Path

from p2r.benchmarks.p2r10k import COLUMNS, RAW_COLUMNS
from p2r.benchmarks.reasonseg import SPLITS
from p2r.benchmarks.tables import find_parts, read_columns
from p2r.benchmarks.vstar import is_original_folder
from p2r.errors import DataError


def recognise(path: Path, split: str | None = None) -> str:
    """The benchmark's name. Raises DataError when none or more than one fits."""
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
    if path.suffix == ".jsonl" or (path.is_dir() and not _has_tables(path) and any(path.glob("*.jsonl"))):
        return "p2r10k" if path.is_file() and _is_training_data(read_columns(path)) else "folder"
    file = find_parts(path, split=split)[0]
    columns = read_columns(file)
    if _is_training_data(columns):
        return "p2r10k"
    if "cycle_category" in columns:
        return "hrbench_8k" if "8k" in file.name.lower() else "hrbench_4k"
    if columns >= {"Question_id", "Answer choices"} or "multi-choice options" in columns or "l2-category" in columns:
        return "mme_realworld_lite" if "lite" in str(file).lower() else "mme_realworld"
    if columns >= {"image", "mask", "image_id"}:
        return "reasonseg"
    if columns >= {"image", "text", "label"} or "vstar" in file.name.lower():
        return "vstar"
    raise DataError(
        f"{path} is none of the known layouts; its columns are {', '.join(sorted(columns))}",
        hint="say which benchmark it is with NAME:PATH; docs/reference/benchmarks.md lists the layouts",
    )


def _is_training_data(columns: frozenset[str]) -> bool:
    return columns >= COLUMNS or columns >= RAW_COLUMNS


def _has_tables(folder: Path) -> bool:
    return any(file.suffix in (".parquet", ".tsv", ".json") for file in folder.iterdir())
