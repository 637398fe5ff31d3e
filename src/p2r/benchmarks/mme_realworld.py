"""MME-RealWorld (Zhang et al., 2024), its Lite selection and its Chinese part (CN): the original JSON with a folder of
images, the base64 JSON, lmms-eval's parquet and VLMEvalKit's TSV.

The prompt is that of the authors' release from every layout: the question, "Options:", and lines "(A) ...". In Chinese
it has the heading of lmms-eval and the first sentence of the authors' instruction; the rest of that says how to
reply, which every prompt set says in its own way.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import cast

from p2r.benchmarks.base import Facts
from p2r.benchmarks.files.field_image import IMAGE_COLUMNS, find_image
from p2r.benchmarks.files.rows import Row
from p2r.benchmarks.files.table_file import read_table
from p2r.benchmarks.layout import Loaded, Source
from p2r.benchmarks.options import find_doubles, join_question, parse_lettered, read_letter_columns
from p2r.errors import count_nouns, excerpt
from p2r.types import ImageSource, Sample

LITE_CATEGORIES = {
    "Perception/OCR with Complex Context": 250,
    "Perception/Remote Sensing": 150,
    "Perception/Diagram and Table": 100,
    "Perception/Monitoring": 319,
    "Perception/Autonomous_Driving": 350,
    "Reasoning/OCR with Complex Context": 100,
    "Reasoning/Diagram and Table": 100,
    "Reasoning/Monitoring": 150,
    "Reasoning/Autonomous_Driving": 400,
}
FACTS = Facts("mme_realworld", None, dict.fromkeys(LITE_CATEGORIES), letters="ABCDEF", aggregation="mme")
FACTS_LITE = Facts("mme_realworld_lite", 1919, LITE_CATEGORIES, letters="ABCDEF", aggregation="mme")
FACTS_CN = Facts("mme_realworld_cn", None, dict.fromkeys(LITE_CATEGORIES), letters="ABCDEF", aggregation="mme")
CN_COUNTS = "the paper and VLMEvalKit count 5,917 in MME-RealWorld-CN, a listing of lmms-eval's files 5,462"
CN_HEADING, CN_INSTRUCTION = "选项如下所示:", "根据图像选择上述多项选择题的最佳答案。"
LICENSE_NOTE = "license of MME-RealWorld: Apache-2.0"
OPTIONS = "multi-choice options"


def load_mme_realworld(facts: Facts) -> Callable[[Source], Loaded]:
    """Return the loader for the whole benchmark, for Lite or for CN."""

    def load(source: Source) -> Loaded:
        """Load one file. Raises DataError for another layout or more bad rows than allowed."""
        table = read_table(source.path, split=source.split)
        if "Question_id" in table.columns:
            table.require(["Image", "Text", "Answer choices", "Ground truth", "Subtask", "Task"])
            make = _from_original(facts, source)
        else:
            table.require(["index", "question", "answer", "category"])
            table.require_one(["image", "image_path", "bytes"])
            table.require([OPTIONS if OPTIONS in table.columns else "A"])
            make = _from_table(facts, source)
        samples = source.sieve.collect(table.rows, make, lambda row: row.place)
        notes = (
            [f"{count_nouns(len(samples), 'question')} read; {CN_COUNTS}", LICENSE_NOTE] if facts is FACTS_CN else []
        )
        return Loaded(samples, facts, find_doubles(samples), notes)

    return load


def parse_options(row: Row, name: str = OPTIONS) -> tuple[str, ...]:
    """Parse a list of "(A) ...", possibly written as a Python literal. Raises DataError for anything else."""
    value = row.values.get(name)
    if isinstance(value, str):
        try:
            value = cast("object", ast.literal_eval(value))
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise row.fail(name, f"{excerpt(value)} is not a list") from error
    if not isinstance(value, list | tuple):
        raise row.fail(name, "missing" if value is None else f"{excerpt(value)} is not a list")
    return parse_lettered(cast("list[object]", value), name, row)


def _from_original(facts: Facts, source: Source) -> Callable[[Row], Sample]:
    def make(row: Row) -> Sample:
        row.check()
        options = parse_options(row, "Answer choices")
        image = find_image(row, source.image_root, "Image")
        category = f"{row.text('Task')}/{row.text('Subtask')}"
        return _make(facts, row, ("Question_id", "Text", "Ground truth"), image, options, category)

    return make


def _from_table(facts: Facts, source: Source) -> Callable[[Row], Sample]:
    def make(row: Row) -> Sample:
        row.check()
        options = parse_options(row) if row.has(OPTIONS) else read_letter_columns(row)
        image = find_image(row, source.image_root, "bytes", *IMAGE_COLUMNS)
        return _make(facts, row, ("index", "question", "answer"), image, options, row.text("category"))

    return make


def _make(
    facts: Facts, row: Row, names: tuple[str, str, str], image: ImageSource, options: tuple[str, ...], category: str
) -> Sample:
    key, question, answer = names
    text = row.text(question)
    if facts is FACTS_CN:
        asked = text.partition(CN_INSTRUCTION)[0].strip()
        text = f"{join_question(asked, options, heading=CN_HEADING)}\n{CN_INSTRUCTION}"
    else:
        text = join_question(text, options, heading="Options:")
    return Sample(
        id=row.key(key),
        image=image,
        question=text,
        options=options,
        answer_form="choice",
        target=row.letter(answer, options),
        benchmark=facts.name,
        category=category,
        chance=1 / len(options),
        options_in_question=True,
    )
