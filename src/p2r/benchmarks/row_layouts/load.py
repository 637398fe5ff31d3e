"""Load rows in any layout of training data, as samples.

    {"prompt": [{"role": "user", "content": "<image>\\nWhat ...?\\nA. red\\nB. blue"}], "images": ["a.jpg"],
     "data_source": "...", "reward_model": {"ground_truth": "A"}, "extra_info": {"answer_form": "mca", "index": 7}}
    {"images": ["a.jpg"], "problem": "<image>\\nWhat ...?", "solution": "<answer>a kite</answer>", "doc_id": 7}
    {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>What ...?"}, {"from": "gpt", "value": "3"}]}

Options are read out of the question, or out of a column where the row has one. A row that states its answer form is
what it says; if the options of such a choice cannot be read, it stays a choice of unknown options. The form of all
other rows is inferred from question and answer, and what was inferred with doubt is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.field_image import find_image, make_image
from p2r.benchmarks.files.rows import Row, RowTable
from p2r.benchmarks.files.table_file import find_stem, read_table
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.options import read_option_columns
from p2r.benchmarks.row_layouts.answer_form import Reading, infer_form, read_options
from p2r.benchmarks.row_layouts.fields import Message, get_field, get_text, read_key_words, read_messages
from p2r.benchmarks.row_layouts.layouts import (
    IMAGE_COLUMNS,
    P2R_FAMILY,
    RowLayout,
    explain_nearest,
    recognize_layout,
)
from p2r.benchmarks.row_layouts.questions import drop_instructions, find_named_image, strip_marks
from p2r.benchmarks.solutions import unwrap_solution
from p2r.choices import read_letter
from p2r.errors import DataError, count_nouns, excerpt
from p2r.types import LETTERS, AnswerForm, ImageSource, Sample

FACTS = Facts("rows", letters=LETTERS)
FACTS_P2R10K = Facts("p2r10k", letters="ABCDE")
LICENSE_NOTE = (
    "license of P2R-10k: its card says Apache-2.0, but one of its sources is CC BY-NC 4.0 (no commercial use); "
    "check the sources you train on"
)
FORMS: dict[str, AnswerForm] = {"mca": "choice", "na": "number", "free_form": "free_form"}
"""The answer forms by the names used in P2R-10k."""

MOST_NAMED = 5
_INDICES = ("extra_info.index", "doc_id")


def load_rows(source: Source) -> Loaded:
    """Load rows. Raises DataError for columns of no known layout or more bad rows than allowed."""
    table = read_table(source.path, split=source.split, shown=source.shown)
    table.require([])
    layout = recognize_layout(table.columns)
    if layout is None:
        raise unknown_layout(source.path, table.columns)
    reader = _Reader(layout, source)
    name, differences = _choose_names(table, layout)

    def make(row: Row) -> Sample:
        row.check()
        return reader.read(row, name(row))

    samples = source.sieve.collect(table.rows, make, lambda row: row.place)
    unread = [sample.id for sample in samples if sample.answer_form == "choice" and not sample.options]
    if unread:
        state = count_nouns(len(unread), "choice states", "choices state")
        differences.append(f"{state} no options that can be read: {_name_some(unread)}")
    notes = [f"read as {layout.describe(table.columns)}", *reader.explain(samples)]
    if "bbox" in table.columns or "bboxes" in table.columns:
        notes.append("boxes in the rows are not read, because no row says in which frame they are")
    if reader.states_forms:
        notes.append(LICENSE_NOTE)
    facts = _facts(layout)
    most_options = max((len(sample.options) for sample in samples), default=0)
    if most_options > len(facts.letters):
        facts = replace(facts, letters=LETTERS[:most_options])
    return Loaded(samples, facts, [*differences, *reader.doubt(samples)], notes)


class UnknownLayout(DataError):
    """The columns are of no layout."""


def unknown_layout(place: Path, columns: frozenset[str]) -> UnknownLayout:
    """Make the error about columns that no layout has, with the layouts that are nearest."""
    nearest = explain_nearest(columns)
    in_capitals = [name for name in columns if len(name) > 1 and name.isupper()]
    return UnknownLayout(
        f"{place} has none of the known layouts; its columns are {', '.join(sorted(columns)) or 'none'}"
        + (f"; {nearest}" if nearest else ""),
        hint="write the names of the columns in small letters, but for A, B, C, ..."
        if in_capitals and not nearest
        else "rename the columns, or say which benchmark it is with NAME:PATH; docs/reference/benchmarks.md lists them",
    )


def _facts(layout: RowLayout) -> Facts:
    return FACTS_P2R10K if layout in P2R_FAMILY else FACTS


@dataclass(slots=True)
class _Reader:
    """Reads rows of one layout.

    ids: the rows that something was decided about, by what it was.
    states_forms: a row states its answer form, which only those of P2R-10k do.
    """

    layout: RowLayout
    source: Source
    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    states_forms: bool = False

    def read(self, row: Row, name: str) -> Sample:
        """Make a sample of a row. Raises DataError."""
        question, solution, images = self._take_apart(row, name)
        target = unwrap_solution(solution)
        if not target:
            raise row.fail(self.layout.answer or self.layout.question, f"no answer in {excerpt(solution)}")
        columns = read_option_columns(row)
        reading = self._understand(row, name, question, target, columns)
        if not reading.question:
            raise DataError("the question is empty")
        if reading.names_none:
            self.ids["names_none"].append(name)
        if reading.numbered:
            self.ids["numbered"].append(name)
        has_category = self.layout.category and row.has(self.layout.category)
        return Sample(
            id=name,
            image=self._find_image(row, question, images),
            question=reading.question,
            options=reading.options,
            answer_form=reading.form,
            target=reading.target,
            benchmark=_facts(self.layout).name,
            category=row.text(self.layout.category) if has_category else "",
            chance=1 / len(reading.options) if reading.options else None,
            options_in_question=not columns or bool(read_options(reading.question)),
            key_words=read_key_words(row),
        )

    def _take_apart(self, row: Row, name: str) -> tuple[str, str, tuple[object, ...]]:
        """Return the user's text, the solution, and the images among the messages."""
        if self.layout.name == "alpaca":
            parts = [get_text(row, name) for name in (self.layout.question, "input") if row.has(name)]
            return "\n".join(parts), get_text(row, self.layout.answer), ()
        if not row.has(self.layout.question):
            raise row.fail(self.layout.question, "empty" if self.layout.question in row.values else "missing")
        messages = read_messages(row, self.layout.question)
        asked = [k for k, message in enumerate(messages) if message.is_user and message.text.strip()]
        if not asked:
            what = "no text from the user"
            raise row.fail(self.layout.question, f"{excerpt(row.values.get(self.layout.question))} has {what}")
        images = tuple(image for message in messages if message.is_user for image in message.images)
        if self.layout.answer:
            return messages[asked[-1]].text, get_text(row, self.layout.answer), images
        if len(asked) > 1:
            self.ids["rounds"].append(name)
        first = messages[asked[0]]
        return first.text, _find_reply(row, self.layout, messages[asked[0] + 1 :]), images

    def _read_form(self, row: Row) -> AnswerForm | None:
        name = get_field(row, self.layout.form) if self.layout.form else None
        if name is None or name == "":
            return None
        if not isinstance(name, str) or name not in FORMS:
            raise row.fail(self.layout.form, f"{excerpt(name)} is not one of {', '.join(FORMS)}")
        self.states_forms = True
        return FORMS[name]

    def _understand(self, row: Row, name: str, question: str, target: str, columns: Sequence[str]) -> Reading:
        form = self._read_form(row)
        question = strip_marks(question)
        if form is None:
            kept = drop_instructions(question)
            if kept != question:
                self.ids["instructions"].append(name)
            question = kept
        if form in ("number", "free_form"):
            return Reading(question, (), form, target)
        options = read_options(question) or tuple(columns)
        reading = infer_form(question, target, options)
        if form is None or reading.form == "choice":
            return reading
        if not options and (letter := read_letter(target, ())):
            return Reading(question, (), form, letter)
        letters = ", ".join(LETTERS[: len(options)])
        what = f"({letters})" if options else "(the question states no options that can be read)"
        raise row.fail(self.layout.answer, f"{excerpt(target)} is not the letter of an option {what}")

    def _find_image(self, row: Row, question: str, images: tuple[object, ...]) -> ImageSource:
        root = self.source.image_root
        names = [
            name
            for name in dict.fromkeys((self.layout.images, *IMAGE_COLUMNS))
            if name and row.has(name) and row.values.get(name) != []
        ]
        if names:
            return find_image(row, root, *names)
        if not images and (named := find_named_image(question)):
            images = (named,)
        place = self.layout.images or self.layout.question
        if len(images) != 1:
            hint = "a question is about one image" if images else ""
            raise row.fail(place, f"{len(images)} images" if images else "no image", hint)
        try:
            return make_image(images[0], f"{row.path}#{row.number}/{place}", root)
        except DataError as error:
            raise row.fail(place, error.message, error.hint) from error

    def explain(self, samples: Sequence[Sample]) -> Iterator[str]:
        """Say what was changed in the questions."""
        if found := self._used("instructions", samples):
            yield (
                f"{count_nouns(len(found), 'question')} lost closing instructions about thinking, tags, boxes or "
                "tools; the prompts give their own"
            )
        if found := self._used("numbered", samples):
            number = count_nouns(len(found), "question numbers its", "questions number their")
            yield f"{number} options; they are asked with letters: {_name_some(found)}"

    def doubt(self, samples: Sequence[Sample]) -> Iterator[str]:
        """Say which rows may not be what they seem."""
        if found := self._used("names_none", samples):
            yield (
                f"{count_nouns(len(found), 'row states', 'rows state')} options, but the answer names none of them; "
                f"not taken as a choice: {_name_some(found)}"
            )
        if found := self._used("rounds", samples):
            hold = count_nouns(len(found), "row holds", "rows hold")
            yield f"{hold} several questions; only the first of a row is asked: {_name_some(found)}"

    def _used(self, what: str, samples: Sequence[Sample]) -> list[str]:
        used = {sample.id for sample in samples}
        return [name for name in self.ids[what] if name in used]


def _find_reply(row: Row, layout: RowLayout, messages: Sequence[Message]) -> str:
    for message in messages:
        if not message.is_user and message.text.strip():
            return message.text
    raise row.fail(layout.question, "no answer from the assistant", "training rows need the right answer")


def _name_some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:MOST_NAMED]) + (", ..." if len(ids) > MOST_NAMED else "")


def _choose_names(table: RowTable, layout: RowLayout) -> tuple[Callable[[Row], str], list[str]]:
    """Choose how rows are named: by their index where it is unique, otherwise by their number."""
    found = [_find_index(row, layout) for row in table.rows]
    if found and None not in found and len(set(found)) == len(found):
        names = dict(zip((id(row) for row in table.rows), cast("list[str]", found), strict=True))
        return lambda row: names[id(row)], []
    repeated = len(found) - found.count(None) - len(set(found) - {None})
    sentences = (
        [f"{count_nouns(repeated, 'row repeats', 'rows repeat')} an index; rows are named by their number"]
        if repeated
        else []
    )
    return lambda row: f"{find_stem(row.path)}/{row.number}", sentences


def _find_index(row: Row, layout: RowLayout) -> str | None:
    for path in _INDICES if layout in P2R_FAMILY else (layout.id, "doc_id", "index", "question_id", "id", "qid"):
        value = get_field(row, path)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int | str) and str(value).strip():
            return str(value)
    return None
