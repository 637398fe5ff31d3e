"""ZoomBench (Wei et al., 2026, ZwZ): 845 questions about details, each with the whole image and a crop of the detail.

Parquet with `query`, `response`, `image`, `crop_image`, `question_type` (mcq or oq) and `bbox`, in older copies
`prompt` and `answer`; or the JSON that the authors' converter writes, with lists `images` and `crop_images`. The mode
`paired-crop` asks about the crop alone: how much better that is than `direct` is the "zooming gap". `bbox` is in pixels
of the whole image.
"""

from __future__ import annotations

from p2r.benchmarks.annotations.row_boxes import read_pixel_boxes
from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.field_image import find_image
from p2r.benchmarks.files.rows import Row
from p2r.benchmarks.files.table_file import read_table
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.row_layouts.answer_form import infer_form
from p2r.benchmarks.row_layouts.questions import strip_marks
from p2r.benchmarks.solutions import unwrap_solution
from p2r.benchmarks.vstar import SLIP_SHARE
from p2r.errors import count_nouns, excerpt
from p2r.types import LETTERS, Sample

FACTS = Facts("zoombench", 845, {"mcq": 621, "oq": 224}, letters=LETTERS)
QUESTIONS, ANSWERS = ("query", "prompt"), ("response", "answer")
IMAGES, CROPS = ("image", "images"), ("crop_image", "crop_images")
NOTES = (
    "license of ZoomBench: Apache-2.0",
    "the zooming gap is the accuracy of the mode paired-crop less that of direct",
)


def load_zoombench(source: Source) -> Loaded:
    """Load one file. Raises DataError for another layout or more bad rows than allowed."""
    table = read_table(source.path, split=source.split)
    for names in (QUESTIONS, ANSWERS, IMAGES, CROPS):
        table.require_one(names)
    has_types = "question_type" in table.columns

    def make(row: Row) -> Sample:
        row.check()
        question = strip_marks(row.text(_first(row, QUESTIONS)))
        answer = _first(row, ANSWERS)
        target = unwrap_solution(row.text(answer))
        if not question or not target:
            raise row.fail(answer if question else _first(row, QUESTIONS), "empty")
        kind = row.text("question_type").lower() if has_types else ""
        reading = infer_form(question, target)
        if kind == "mcq" and reading.form != "choice":
            raise row.fail(answer, f"{excerpt(target)} names no option of the question, though its type is mcq")
        image = find_image(row, source.image_root, *IMAGES)
        return Sample(
            id=row.key("id") if row.has("id") else str(row.number - 1),
            image=image,
            question=reading.question,
            options=reading.options,
            answer_form=reading.form,
            target=reading.target,
            gold_boxes=() if source.only_asked else read_pixel_boxes(row, "bbox", image, SLIP_SHARE),
            benchmark=FACTS.name,
            category=kind,
            chance=1 / len(reading.options) if reading.options else None,
            options_in_question=bool(reading.options),
            crop=find_image(row, source.image_root, *CROPS),
        )

    samples = source.sieve.collect(table.rows, make, lambda row: row.place)
    notes: list[str] = [*NOTES]
    if bare := sum(not sample.gold_boxes for sample in samples):
        notes.append(f"{count_nouns(bare, 'question')} without a box")
    return Loaded(samples, FACTS if has_types else Facts(FACTS.name, FACTS.num_samples, letters=LETTERS), notes=notes)


def _first(row: Row, names: tuple[str, str]) -> str:
    """Return the name of the first field that is not empty, else the first name."""
    return next((name for name in names if row.has(name)), names[0])
