"""Write a benchmark in another layout: the writers by name, and what a layout has no place for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2r.benchmarks.layout import Writer
from p2r.benchmarks.row_layouts.answer_form import infer_form
from p2r.benchmarks.row_layouts.write import ROW_WRITERS
from p2r.errors import DataError
from p2r.types import Sample

WRITERS: Mapping[str, Writer] = {**ROW_WRITERS}
"""The layouts that can be written, by name."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A report of what was written.

    title: the layout, for messages.
    losses: what the layout has no place for, in parts of sentences; () when all was kept.
    """

    title: str
    num_samples: int
    losses: tuple[str, ...]


def convert(
    samples: Sequence[Sample],
    out: str | Path,
    to: str,
    *,
    inside: bool | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Converted:
    """Write samples to `out` in another layout.

    Args:
        to: the name of a layout in `WRITERS`.
        inside: put the images into the file, or beside it; None is the layout's own way.
        on_progress: called with the number of samples written so far.

    Raises:
        DataError: `to` is not a layout, `out` exists, there are no samples, or a sample does not fit the layout.
        ImageError: an image cannot be read.
        StorageError: something cannot be written.
    """
    out = Path(out).expanduser()
    writer = WRITERS.get(to)
    if writer is None:
        raise DataError(f"{to!r} is not a layout that can be written", hint=f"give one of {', '.join(WRITERS)}")
    if inside is not None and not writer.places_images:
        raise DataError(f"{writer.title} have one place for their images", hint="leave out `inside`")
    if out.exists():
        raise DataError(f"{out} exists already", hint="choose another name, or remove it first")
    if not samples:
        raise DataError("there are no samples to write")
    num_samples = writer.write(_count(samples, on_progress), out, inside=inside)
    return Converted(writer.title, num_samples, tuple(_find_losses(samples, writer)))


def _count(samples: Sequence[Sample], on_progress: Callable[[int], None] | None) -> Iterator[Sample]:
    for number, sample in enumerate(samples, start=1):
        yield sample
        if on_progress is not None:
            on_progress(number)


def _find_losses(samples: Sequence[Sample], writer: Writer) -> Iterator[str]:
    if "gold boxes" not in writer.keeps and (count := sum(bool(sample.gold_boxes) for sample in samples)):
        yield f"the gold boxes of {count} samples"
    if "category" not in writer.keeps and (count := sum(bool(sample.category) for sample in samples)):
        yield f"the category of {count} samples"
    if "rotations" not in writer.keeps and (count := sum(bool(sample.cluster) for sample in samples)):
        yield f"which of {count} samples ask the same"
    if "answer form" not in writer.keeps:
        others = [sample.id for sample in samples if not _is_inferred(sample)]
        if others:
            yield f"the answer form of {len(others)} samples, which will be taken for another: {', '.join(others[:5])}"


def _is_inferred(sample: Sample) -> bool:
    """Tell whether a reader would infer the answer form of a sample."""
    options = () if sample.options_in_question else sample.options
    return infer_form(sample.question, sample.target or "", options).form == sample.answer_form
