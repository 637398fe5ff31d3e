"""Rows that show how to reply: a conversation about images, in any layout of training data that holds replies.

    {"messages": [{"role": "user", "content": "<image>Is it red?"}, {"role": "assistant", "content": "Yes."}],
     "images": ["a.jpg"]}
    {"conversations": [{"from": "human", "value": "<image>Is it red?"}, {"from": "gpt", "value": "Yes."}],
     "image": "a.jpg"}

The words are taken as they are: nothing is unwrapped, and no option is looked for. Images come before the text of the
first question, as everywhere in p2r, whatever place their marks have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from p2r.benchmarks.base import LeftOut, leave_out
from p2r.benchmarks.files.field_image import make_image
from p2r.benchmarks.files.rows import Row, RowTable, parse_struct
from p2r.benchmarks.files.table_file import find_stem, read_table
from p2r.benchmarks.layout import Source
from p2r.benchmarks.row_layouts.fields import Message, get_field, get_text, read_messages, read_system
from p2r.benchmarks.row_layouts.layouts import IMAGE_COLUMNS, RowLayout, recognize_layout
from p2r.benchmarks.row_layouts.load import unknown_layout
from p2r.benchmarks.row_layouts.questions import strip_marks
from p2r.config import SftSettings
from p2r.errors import DataError, P2RError, count_nouns
from p2r.images.load import read_size
from p2r.training.rows.check import SKIP_HINT
from p2r.types import ImageSource


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A conversation to learn from.

    image_sizes: (width, height) of each image, in pixels, as its header says.
    system: the row's own system message, "" without one.
    turns: question and reply, in order; every reply is learned.
    """

    id: str
    images: tuple[ImageSource, ...]
    image_sizes: tuple[tuple[int, int], ...]
    system: str
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """The rows of a file.

    layout: the layout they were read as, in words.
    left_out: rows that a filter took out. bad: rows that cannot be used; at most as many as were allowed.
    longest: the most tokens of a row that is kept; 0 while nothing has been counted.
    """

    rows: Sequence[Demonstration]
    source: str
    layout: str
    left_out: tuple[LeftOut, ...]
    bad: tuple[LeftOut, ...]
    longest: int = 0

    def explain(self) -> Iterator[str]:
        """Say in sentences which rows are used and which are left out."""
        num_read = len(self.rows) + len(self.left_out) + len(self.bad)
        yield f"{len(self.rows)} of {num_read} rows of {self.source} are used, read as {self.layout}"
        for reason, count in Counter(row.reason for row in self.left_out).items():
            yield f"{count} left out: {reason}"
        for row in self.bad:
            yield f"left out, {row.place}: {row.reason}"


def read_demonstrations(source: Source, settings: SftSettings) -> Demonstrations:
    """Read all rows and filter them.

    Args:
        source: its sieve says how many bad rows are left out.

    Raises:
        DataError: no known layout, more bad rows than allowed, or none is left.
    """
    table = read_table(source.path, split=source.split)
    table.require([])
    layout = recognize_layout(table.columns)
    if layout is None:
        if not table.columns:  # the rows are broken
            _check_rows(table)
        raise unknown_layout(source.path, table.columns)
    rows, left_out, bad, settings_used = list[Demonstration](), list[LeftOut](), list[LeftOut](), dict[str, None]()
    for row in table.rows:
        try:
            row.check()
            demonstration = _read(row, layout, source)
            setting, reason = _find_phrase(demonstration, settings)
            if not setting:
                demonstration = replace(demonstration, image_sizes=tuple(map(read_size, demonstration.images)))
                setting, reason = _find_small_image(demonstration, settings)
        except P2RError as error:
            subject = f"{row.place} cannot be learned from"
            leave_out(bad, row.place, error, source.sieve.skip_bad, subject=subject, skip=SKIP_HINT)
            continue
        if setting:
            settings_used[setting] = None
            left_out.append(LeftOut(row.place, reason))
        else:
            rows.append(demonstration)
    if not rows:
        raise refuse_all(str(source.path), [*left_out, *bad], settings_used)
    described = layout.describe(table.columns)
    return Demonstrations(rows, str(source.path), described, tuple(left_out), tuple(bad))


def _check_rows(table: RowTable) -> None:
    """Raise DataError for the first row that cannot be read."""
    for row in table.rows:
        try:
            row.check()
        except DataError as error:
            raise DataError(f"{row.place}: {error.message}", hint=error.hint) from error


def refuse_all(source: str, left_out: Sequence[LeftOut], settings: Collection[str]) -> DataError:
    """The error for a file of which no row is left.

    Args:
        settings: those that left rows out.
    """
    causes = Counter(row.reason for row in left_out)
    reasons = "; ".join(f"{reason} ({count_nouns(count, 'row')})" for reason, count in causes.items())
    hint = f"change {' or '.join(settings)}, or give other rows" if settings else "mend the rows, or give others"
    return DataError(f"no row of {source} is left to learn from: {reasons}", hint=hint)


def _read(row: Row, layout: RowLayout, source: Source) -> Demonstration:
    """Read a row, without looking at its images. Raises DataError."""
    if layout.name == "alpaca":
        parts = [get_text(row, name) for name in (layout.question, "input") if row.has(name)]
        messages = [Message(is_user=True, text="\n".join(parts))]
    else:
        messages = read_messages(row, layout.question)
    if layout.answer:
        messages.append(Message(is_user=False, text=get_text(row, layout.answer)))
    asked, told = messages[::2], messages[1::2]
    if not asked or len(asked) != len(told) or any(m.is_user for m in told) or not all(m.is_user for m in asked):
        raise row.fail(layout.question, "user and assistant do not take turns, the user first, the assistant last")
    turns = tuple((strip_marks(ask.text), reply.text.strip()) for ask, reply in zip(asked, told, strict=True))
    for number, (question, reply) in enumerate(turns, start=1):
        if not question or not reply:
            raise row.fail(layout.question, f"{'reply' if question else 'question'} {number} is empty")
    images = _find_images(row, layout, messages, source.image_root)
    name = get_field(row, layout.id)
    own = str(name) if isinstance(name, int | str) and str(name).strip() else f"{find_stem(row.path)}/{row.number}"
    return Demonstration(own, images, (), read_system(row, layout.question), turns)


def _find_images(row: Row, layout: RowLayout, messages: Sequence[Message], root: Path) -> tuple[ImageSource, ...]:
    """The images of a row: those of its column, else those among the parts of its first message."""
    if any(message.images for message in messages[1:]):
        raise row.fail(layout.question, "an image after the first question", "images belong to the first question")
    column = next((name for name in (layout.images, *IMAGE_COLUMNS) if name and row.has(name)), None)
    values: Sequence[object] = messages[0].images
    if column is not None:
        value = row.cells[column] if column in row.cells else parse_struct(row.values[column])
        values = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [value]
    where = f"{row.path}#{row.number}/{column or layout.question}"
    names = [where] if len(values) == 1 else [f"{where}/{number}" for number in range(len(values))]
    try:
        return tuple(make_image(value, name, root) for value, name in zip(values, names, strict=True))
    except DataError as error:
        raise row.fail(column or layout.question, error.message, error.hint) from error


def _find_phrase(row: Demonstration, settings: SftSettings) -> tuple[str, str]:
    """The setting that leaves a row out for its words, and why; empty texts for none."""
    for phrase in settings.leave_out:
        if any(phrase.lower() in reply.lower() for _, reply in row.turns):
            return "sft.leave_out", f"the reply holds {phrase!r}"
    return "", ""


def _find_small_image(row: Demonstration, settings: SftSettings) -> tuple[str, str]:
    """The same for its images."""
    if any(min(size) < settings.min_image_side for size in row.image_sizes):
        return "sft.min_image_side", f"an image side is below {settings.min_image_side} pixels"
    return "", ""
