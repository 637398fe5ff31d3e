"""TreeBench (Wang et al., 2025, TreeVGR): 405 questions with options, and boxes of the objects that each is about.

A TSV with the options as one text of lines "A. ...", and `target_instances`, a list of [x1, y1, x2, y2] in pixels. The
question states the options as lines "(A) ..."; where it states them already (OCR), they are not stated twice.
"""

from __future__ import annotations

from p2r.benchmarks.annotations.row_boxes import read_pixel_boxes
from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.field_image import IMAGE_COLUMNS, find_image
from p2r.benchmarks.files.rows import Row
from p2r.benchmarks.files.table_file import read_table
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.options import find_doubles, join_question, parse_lettered, read_letter_columns, split_options
from p2r.benchmarks.row_layouts.answer_form import read_options
from p2r.benchmarks.row_layouts.stated_options import remove_options
from p2r.benchmarks.vstar import SLIP_SHARE
from p2r.errors import count_nouns
from p2r.types import LETTERS, Sample

CATEGORIES = {
    "Perception/Attributes": 29,
    "Perception/Material": 13,
    "Perception/Physical State": 23,
    "Perception/Object Retrieval": 16,
    "Perception/OCR": 68,
    "Reasoning/Perspective Transform": 85,
    "Reasoning/Ordering": 57,
    "Reasoning/Contact and Occlusion": 41,
    "Reasoning/Spatial Containment": 29,
    "Reasoning/Comparison": 44,
}
FACTS = Facts("treebench", 405, CATEGORIES, letters=LETTERS[:11])
OPTIONS, TARGETS = "multi-choice options", "target_instances"
LICENSE_NOTE = (
    "license of TreeBench: its repository says Apache-2.0; a license of the data itself is not known, and its images "
    "are those of SA-1B, which has a license of its own"
)


def load_treebench(source: Source) -> Loaded:
    """Load one file. Raises DataError for another layout or more bad rows than allowed."""
    table = read_table(source.path, split=source.split)
    table.require(["index", "question", "answer", "category"])
    table.require_one(IMAGE_COLUMNS)
    table.require([OPTIONS if OPTIONS in table.columns else "A"])

    def make(row: Row) -> Sample:
        row.check()
        options = parse_lettered(split_options(row.text(OPTIONS)), OPTIONS, row) if row.has(OPTIONS) else None
        options = options or read_letter_columns(row)
        question = row.text("question")
        if read_options(question) == options:
            question = remove_options(question)
        image = find_image(row, source.image_root, *IMAGE_COLUMNS)
        return Sample(
            id=row.key("index"),
            image=image,
            question=join_question(question, options, heading="Options:"),
            options=options,
            answer_form="choice",
            target=row.letter("answer", options),
            gold_boxes=() if source.only_asked else read_pixel_boxes(row, TARGETS, image, SLIP_SHARE),
            benchmark=FACTS.name,
            category=row.text("category"),
            chance=1 / len(options),
            options_in_question=True,
        )

    samples = source.sieve.collect(table.rows, make, lambda row: row.place)
    notes = [LICENSE_NOTE]
    if bare := sum(not sample.gold_boxes for sample in samples):
        notes.append(f"{count_nouns(bare, 'question')} without target boxes; the authors' IoU counts 0 for such")
    return Loaded(samples, FACTS, find_doubles(samples), notes)
