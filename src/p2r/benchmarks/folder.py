"""Your own questions: one row each, in JSON lines, JSON, CSV, TSV or parquet, beside the images.

    {"image": "a.jpg", "question": "What is on the sail?", "options": ["a star", "a fish"], "target": "B",
     "boxes": [[120, 80, 300, 240]], "box_frame": "pixels"}

Every command reads them here. Boxes are [x1, y1, x2, y2], or {"box": [...], "label": "sail"}; `box_frame` has to say
whether they are "pixels" or "per_mille", because a mistake would go unnoticed. Boxes can also come from a COCO or Label
Studio file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args

from p2r.benchmarks.annotations.box_files import BoxFile, read_box_file
from p2r.benchmarks.annotations.row_boxes import read_boxes, stated_boxes
from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.field_image import find_image
from p2r.benchmarks.files.rows import Row, RowTable, is_empty
from p2r.benchmarks.files.table_file import KINDS, find_kind, read_table
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.options import OPTION_COLUMNS, read_option_columns
from p2r.benchmarks.row_layouts.answer_form import Reading, infer_form, read_options
from p2r.benchmarks.row_layouts.fields import get_field, read_key_words
from p2r.benchmarks.row_layouts.layouts import KEY_WORD_COLUMNS
from p2r.benchmarks.row_layouts.questions import drop_instructions
from p2r.benchmarks.solutions import unwrap_solution
from p2r.choices import find_letter
from p2r.errors import DataError, count_nouns, excerpt
from p2r.types import LETTERS, AnswerForm, Box, ImageSource, Sample

FACTS = Facts("folder", letters=LETTERS)
IMAGE_NAMES = ("image", "image_path", "images")
TARGET_NAMES = ("target", "answer")
FIELDS = (
    *(*IMAGE_NAMES, "question", *OPTION_COLUMNS[:3], *TARGET_NAMES, "answer_form"),
    *("boxes", "box_frame", "id", "category", "cluster", *KEY_WORD_COLUMNS),
)
"""The fields of a row, beside the options A, B, C, ... Capital letters do not count, but for those."""

EXAMPLES = {
    True: "the first line names the columns, as in image,question,options,target; each line below is a question",
    False: 'a line reads like {"image": "a.jpg", "question": "..."}',
}
"""A sentence on what a table looks like, or JSON lines."""

_HINT = f"a row has the fields {', '.join(FIELDS)}, and A, B, C, ... for options"
_PANDAS_INDEX = "Unnamed: "


def load_folder(source: Source) -> Loaded:
    """Load your own questions. Raises DataError for a missing file or more bad rows than allowed."""
    table = _fold_names(read_table(_find_file(source), shown=source.shown))
    is_table = find_kind(table.path) in (".csv", ".tsv")
    if not table.rows:
        raise DataError(f"{table.path} holds no questions", hint=EXAMPLES[is_table])
    _check_columns(table, is_table)
    reader = _Reader(source, read_box_file(source.boxes) if source.boxes else None)
    samples = source.sieve.collect(table.rows, reader.read, lambda row: row.place)
    joined = reader.joined
    differences = [*reader.doubt(samples), *(joined.remarks() if joined else [])]
    return Loaded(samples, FACTS, differences, [*reader.explain(samples), *(joined.notes() if joined else [])])


def is_own(columns: Collection[str]) -> bool:
    """Tell whether rows with these columns are your own questions and nothing else."""
    folded = {_fold(name) for name in columns}
    has_image = any(name in folded for name in IMAGE_NAMES)
    return has_image and "question" in folded and all(_is_known(name) for name in folded)


def _fold(name: str) -> str:
    return name.strip().lower() if len(name.strip()) > 1 and name.strip().lower() in FIELDS else name


def _is_known(name: str) -> bool:
    is_letter = len(name) == 1 and name in LETTERS
    return is_letter or name in FIELDS or not name or name.startswith(_PANDAS_INDEX)


def _fold_names(table: RowTable) -> RowTable:
    rows = [
        replace(
            row,
            values={_fold(name): value for name, value in row.values.items()},
            cells={_fold(name): cell for name, cell in row.cells.items()},
        )
        for row in table.rows
    ]
    return RowTable(table.path, frozenset(map(_fold, table.columns)), rows)


def _find_file(source: Source) -> Path:
    path = source.path
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"there is no file or folder {path}", hint="check the path and the working directory")
    found = sorted(file for file in path.iterdir() if find_kind(file) and _is_of_split(file, source.split))
    lines = [file for file in found if find_kind(file) == ".jsonl"]
    files = lines or found
    if len(files) != 1:
        named = ", ".join(file.name for file in files) or "none"
        raise DataError(
            f"{path} should hold one file of questions ({', '.join(KINDS)}); found: {named}",
            hint="name the file itself",
        )
    return files[0]


def _is_of_split(file: Path, split: str | None) -> bool:
    return split is None or file.name.startswith(f"{split}.")


def _check_columns(table: RowTable, is_table: bool) -> None:
    """Raise DataError where no row of a table can be a question, because a column is missing."""
    if table.columns & set(IMAGE_NAMES) and "question" in table.columns:
        return
    missing = ["image"] * (not table.columns & set(IMAGE_NAMES)) + ["question"] * ("question" not in table.columns)
    if is_table or find_kind(table.path) == ".parquet":
        raise DataError(
            f"{table.path} has no column {' and no column '.join(missing)}: its columns are "
            f"{excerpt(', '.join(sorted(table.columns)))}",
            hint=EXAMPLES[is_table],
        )


@dataclass(slots=True)
class _Reader:
    """Reads rows. ids: the rows that something was decided about, by what it was."""

    source: Source
    joined: BoxFile | None
    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def read(self, row: Row) -> Sample:
        """Make a sample of a row. Raises DataError."""
        try:
            return self._read(row)
        except DataError as error:
            raise DataError(error.message, hint=error.hint or _HINT) from error

    def _read(self, row: Row) -> Sample:
        row.check()
        _check_names(row)
        name = row.key("id") if row.has("id") else str(row.number)
        image = find_image(row, self.source.image_root, *IMAGE_NAMES)
        columns = _read_options(row)
        reading = self._understand(row, name, columns)
        boxes = self._find_boxes(row, name, image)
        return Sample(
            id=name,
            image=image,
            question=reading.question,
            options=reading.options,
            answer_form=reading.form,
            target=reading.target or None,
            gold_boxes=boxes,
            benchmark=FACTS.name,
            category=row.text("category") if row.has("category") else "",
            chance=1 / len(reading.options) if reading.options else None,
            cluster=row.text("cluster") if row.has("cluster") else "",
            options_in_question=bool(reading.options) and not columns,
            nothing_there=stated_boxes(row) == [] and not boxes,
            key_words=read_key_words(row),
        )

    def _understand(self, row: Row, name: str, columns: tuple[str, ...]) -> Reading:
        """Return the question and its answer; target "" where the right answer is not known."""
        question, target, form = _read_question(row), _read_target(row), _read_form(row)
        if form != "choice" and form is not None and columns:
            raise DataError(
                f"field 'answer_form': {form!r} with options", hint="leave the options out, or make it a choice"
            )
        if form is None and (kept := drop_instructions(question)) != question:
            self.ids["instructions"].append(name)
            question = kept
        options = columns or (read_options(question) if form == "choice" else ())
        if options or form == "choice":
            if len(options) < 2:
                raise row.fail("options", f"{count_nouns(len(options), 'option')}; a choice needs two or more")
            return Reading(question, options, "choice", find_letter(target, options) if target else "")
        if form is not None or not target:
            return Reading(question, (), form or "free_form", target)
        reading = infer_form(question, target)
        for what in ("names_none", "numbered"):
            if getattr(reading, what):
                self.ids[what].append(name)
        if reading.form != "free_form":
            self.ids[f"inferred {reading.form}"].append(name)
        return reading

    def _find_boxes(self, row: Row, name: str, image: ImageSource) -> tuple[Box, ...]:
        if self.source.only_asked:
            self.ids["boxes"] += [name] * bool(stated_boxes(row))
            return ()
        if self.joined:
            stated = next((row.values[key] for key in IMAGE_NAMES if row.has(key) and key in row.values), None)
            place = stated if isinstance(stated, str) else image.uri
            question = _read_question(row)
            found = self.joined.find(place, image, sample_id=name, question=question, replaces=bool(stated_boxes(row)))
            if found is not None:
                return found
        return read_boxes(row, image)

    def explain(self, samples: Sequence[Sample]) -> Iterator[str]:
        """Say what was inferred or changed."""
        kept = {sample.id for sample in samples}
        found = {what: [name for name in names if name in kept] for what, names in self.ids.items()}
        inferred = {form: found.get(f"inferred {form}", []) for form in ("choice", "number")}
        if any(inferred.values()):
            counts = " and ".join(count_nouns(len(ids), form) for form, ids in inferred.items() if ids)
            first = next(ids[0] for ids in inferred.values() if ids)
            yield f"the answer form was inferred: {counts}, the first with the id {first}; `answer_form` states it"
        if ids := found.get("instructions"):
            yield (
                f"{count_nouns(len(ids), 'question')} lost closing instructions about thinking, tags, boxes or tools; "
                "the prompts give their own"
            )
        if ids := found.get("numbered"):
            number = count_nouns(len(ids), "question numbers its", "questions number their")
            yield f"{number} options; they are asked with letters, the first with the id {ids[0]}"
        if ids := found.get("boxes"):
            yield f"the boxes of {count_nouns(len(ids), 'question')} are not used here; `p2r eval` uses them"

    def doubt(self, samples: Sequence[Sample]) -> Iterator[str]:
        """Say which rows may not be what they seem."""
        kept = {sample.id for sample in samples}
        if ids := [name for name in self.ids["names_none"] if name in kept]:
            state = count_nouns(len(ids), "question states", "questions state")
            what = "options, but the answer names none of them; not taken as a choice"
            yield f"{state} {what}, the first with the id {ids[0]}"


def _check_names(row: Row) -> None:
    names = [*row.values, *row.cells]
    wrong = next((name for name in names if not _is_known(name) and row.has(name)), None)
    if wrong is not None:
        raise row.fail(wrong, "it is not a known name")
    for same in (IMAGE_NAMES, TARGET_NAMES, ("options", "A")):
        if len(filled := [name for name in same if row.has(name)]) > 1 and same is not IMAGE_NAMES:
            raise row.fail(filled[1], f"there is also {filled[0]!r}", "give one of them")


def _read_question(row: Row) -> str:
    value = get_field(row, "question")
    if is_empty(value):
        raise row.fail("question", "empty" if "question" in row.values else "missing", "write what you want to know")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise row.fail("question", f"{excerpt(value)} is not a text")
    return str(value).replace("<image>", "").strip()


def _read_options(row: Row) -> tuple[str, ...]:
    options = read_option_columns(row)
    if not options and (letter := next((letter for letter in LETTERS if row.has(letter)), None)):
        raise row.fail(letter, "1 option; a choice needs two or more")
    stripped = [option.strip() for option in options]
    if twice := next((option for option in stripped if stripped.count(option) > 1), None):
        raise row.fail("options", f"{twice!r} comes more than once", "each option must be different")
    if len(options) > len(LETTERS):
        raise row.fail("options", f"{len(options)} are more than there are letters", f"give at most {len(LETTERS)}")
    return options


def _read_target(row: Row) -> str:
    """Return the right answer without its wrapping, "" when it is not known."""
    name = next((name for name in TARGET_NAMES if row.has(name)), None)
    if name is None:
        blank = next((name for name in TARGET_NAMES if str(row.values.get(name) or "").isspace()), None)
        if blank is not None:
            raise row.fail(blank, "empty", "leave it out when the answer is not known")
        return ""
    value = get_field(row, name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise row.fail(name, f"{excerpt(value)} is not a text or a number")
    if not (target := unwrap_solution(str(value))):
        raise row.fail(name, "empty", "leave it out when the answer is not known")
    return target


def _read_form(row: Row) -> AnswerForm | None:
    if not row.has("answer_form"):
        return None
    form = row.text("answer_form")
    if form not in get_args(AnswerForm):
        raise row.fail("answer_form", f"{form!r} is not one of {', '.join(get_args(AnswerForm))}")
    return cast("AnswerForm", form)
