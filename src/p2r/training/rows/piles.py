"""The rows of a measurement by kind, in files that `data.source` reads back, and their histogram.

Images stay where they are: a row names its image by its whole path or its address. One that lies in no file of its own,
such as a needle's or one in a parquet file, is written once, into a folder beside the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from p2r.benchmarks.base import LeftOut
from p2r.benchmarks.files.image_place import ImagePlace
from p2r.benchmarks.files.write_table import TableRow, write_table
from p2r.benchmarks.folder_write import make_row
from p2r.errors import P2RError, StorageError, count_nouns
from p2r.files import explain_write_errors, replace_file
from p2r.runs.difficulty import DIFFICULTY_FILE, HISTOGRAM_FILE, KINDS, Kind, RowDifficulty, draw_histogram
from p2r.types import Sample


def name_pile(folder: Path, kind: Kind) -> Path:
    """Return the file of the rows of a kind."""
    return folder / f"{kind}.jsonl"


def write_piles(folder: Path, rows: Sequence[Sample], found: Sequence[RowDifficulty], num_rollouts: int) -> str:
    """Write the rows of each kind in their order, and the histogram. Done once: later calls find the histogram.

    Args:
        found: the measurement of each row.

    Returns:
        A sentence on rows that such a file has no place for, such as a choice of unknown options; "" without any.

    Raises:
        StorageError: something cannot be written.
    """
    histogram = folder / HISTOGRAM_FILE
    if histogram.exists():
        return ""
    images, left_out = ImagePlace(folder / DIFFICULTY_FILE), list[LeftOut]()
    for kind in KINDS:
        pile = [row for row, each in zip(rows, found, strict=True) if each.kind == kind]
        write_table(_make_rows(pile, images, left_out), name_pile(folder, kind))
    with explain_write_errors(histogram):
        replace_file(histogram, "".join(f"{line}\n" for line in draw_histogram(found, num_rollouts)))
    if not left_out:
        return ""
    count = count_nouns(len(left_out), "row has no place in the files", "rows have no place in the files")
    return f"{count}, the first because {left_out[0].reason}"


def _make_rows(rows: Sequence[Sample], images: ImagePlace, left_out: list[LeftOut]) -> Iterator[TableRow]:
    for row in rows:
        try:
            made = make_row(row, images.refer(row.image), keeps_wording=True)
        except StorageError:
            raise
        except P2RError as error:
            left_out.append(LeftOut(row.id, error.message))
            continue
        yield made
