"""Small files in exactly the layouts in which benchmarks are passed around."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CLOSING = "Answer with the option's letter from the given choices directly."


def make_image(number: int, width: int = 80, height: int = 60) -> Image.Image:
    pixels = np.random.RandomState(number).randint(0, 255, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def make_bytes(number: int, width: int = 80, height: int = 60) -> bytes:
    buffer = io.BytesIO()
    make_image(number, width, height).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make_base64(number: int) -> str:
    return base64.b64encode(make_bytes(number)).decode()


def write_tsv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """As pandas does: quotes where needed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: Sequence[Mapping[str, object]], *, rows_per_group: int = 100) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path, row_group_size=rows_per_group)
    return path


def write_vstar(folder: Path, *, num_attributes: int = 3, num_relations: int = 2) -> Path:
    """The original release: annotations with the right option first, a listing, and folders that do not belong."""
    listing: list[str] = []
    for category, count in (("direct_attributes", num_attributes), ("relative_position", num_relations)):
        (folder / category).mkdir(parents=True)
        for number in range(count):
            path = folder / category / f"sa_{number}"
            path.with_suffix(".jpg").write_bytes(make_bytes(number, 200 + number, 100))
            options = ["red", "green", "blue", "white"] if category == "direct_attributes" else ["left", "right"]
            annotation = {
                "target_object": ["kite"],
                "bbox": [[20, 10, 40, 30]],
                "question": f"What about the kite of {category} {number}?",
                "options": options,
            }
            path.with_suffix(".json").write_text(json.dumps(annotation))
            row = {"question_id": len(listing), "image": f"{category}/sa_{number}.jpg", "label": "A"}
            listing.append(json.dumps(row))
    for extra in ("OCR", "GPT4V-hard"):
        (folder / extra).mkdir()
        (folder / extra / "0.json").write_text("{}")
    (folder / "test_questions.jsonl").write_text("\n".join(listing) + "\n")
    return folder


def vstar_lmms_rows(num_attributes: int = 3, num_relations: int = 2) -> list[dict[str, object]]:
    """The same questions as `write_vstar`, in lmms-eval's columns and an order of options of their own."""
    rows: list[dict[str, object]] = []
    for category, count in (("direct_attributes", num_attributes), ("relative_position", num_relations)):
        for number in range(count):
            options = ["green", "red", "white", "blue"] if category == "direct_attributes" else ["right", "left"]
            lines = [f"({letter}) {option}" for letter, option in zip("ABCD", options, strict=False)]
            question = f"What about the kite of {category} {number}?"
            rows.append(
                {
                    "image": {"bytes": make_bytes(number, 200 + number, 100), "path": None},
                    "text": "\n".join([question, *lines, CLOSING]),
                    "category": category,
                    "label": "B",
                    "question_id": str(len(rows)),
                }
            )
    return rows


def hrbench_rows(num_questions: int = 3) -> list[dict[str, object]]:
    """Every question four times, its options turned by one each time."""
    rows: list[dict[str, object]] = []
    for number in range(num_questions):
        options = [f"one {number}", f"two {number}", f"three {number}", f"four {number}"]
        for cycle in range(4):
            turned = options[-cycle:] + options[:-cycle] if cycle else options
            rows.append(
                {
                    "index": 4 * number + cycle,
                    "question": f"How many birds\tare in image {number}?",
                    "answer": "ABCD"[cycle],
                    "category": "single" if number % 2 == 0 else "cross",
                    **dict(zip("ABCD", turned, strict=True)),
                    "cycle_category": cycle,
                    "image": make_base64(number),
                }
            )
    return rows


MME_CATEGORIES = ("Perception/Remote Sensing", "Reasoning/Monitoring", "Perception/OCR with Complex Context")
MME_OPTIONS = ["(A) red.", "(B) it's green.", '(C) "blue".', "(D) white.", "(E) The image does not feature the color."]


def mme_lmms_rows(num_rows: int = 3) -> list[dict[str, object]]:
    return [
        {
            "index": f"mme-{number}",
            "bytes": make_base64(number),
            "question": f"What is the color of truck {number}?",
            "multi-choice options": MME_OPTIONS,
            "answer": "E" if number == 0 else "B",
            "category": MME_CATEGORIES[number % 3],
            "l2-category": "color",
        }
        for number in range(num_rows)
    ]


def write_reasonseg(folder: Path) -> Path:
    """The original release with a target, an area to ignore and a flag; one file in cp1252."""
    folder.mkdir(parents=True)
    target = {"label": "target", "points": [[10, 10], [40, 10], [40, 30], [10, 30]]}
    ignore = {"label": "ignore_it", "points": [[50, 10], [70, 10], [70, 50], [50, 50]]}
    flag = {"label": "flag", "points": [[0, 0], [79, 0], [79, 59]]}
    for name, text in (("1_a", "something to sit on"), ("2_b", "the café’s sign")):
        (folder / f"{name}.jpg").write_bytes(make_bytes(1))
        annotation = {"text": [text, "another wording"], "is_sentence": False, "shapes": [target, ignore, flag]}
        encoding = "cp1252" if name == "2_b" else "utf-8"
        (folder / f"{name}.json").write_bytes(json.dumps(annotation, ensure_ascii=False).encode(encoding))
    return folder


def write_visualprobe(folder: Path, level: str = "Hard", *, num_rows: int = 3) -> Path:
    """A level as the hub has it: `val.json` and `data/`, in a folder of any name, with paths from the hub's name."""
    (folder / "data").mkdir(parents=True)
    rows: list[dict[str, object]] = []
    for number in range(num_rows):
        (folder / "data" / f"{number}.jpg").write_bytes(make_bytes(number))
        rows.append(
            {
                "images": [f"VisualProbe_{level}/data/{number}.jpg"],
                "problem": f"<image>\nWhat is written on sign {number}?",
                "solution": f"exit {number}",
                "doc_id": 100 + number,
            }
        )
    (folder / "val.json").write_text(json.dumps(rows))
    return folder


TREE_CATEGORIES = ("Perception/OCR", "Reasoning/Ordering", "Perception/Attributes")


def treebench_rows(num_rows: int = 3) -> list[dict[str, object]]:
    """TreeBench.tsv: options as one text of lines, boxes of 80 x 60 images as text; OCR states its options twice."""
    options = "A. red\nB. blue\nC. it's green"
    return [
        {
            "index": number,
            "image": make_base64(number),
            "question": f"Which color has door {number}?" + (f"\nOptions:\n{options}" if number % 3 == 0 else ""),
            "multi-choice options": options,
            "answer": "ABC"[number % 3],
            "category": TREE_CATEGORIES[number % 3],
            "A": "red",
            "B": "blue",
            "C": "it's green",
            "target_instances": "[[8, 6, 40, 30], [40, 30, 80, 60]]",
        }
        for number in range(num_rows)
    ]


def zoombench_rows(num_rows: int = 4) -> list[dict[str, object]]:
    """ZoomBench's parquet: every other question is open; the box is in pixels of the 80 x 60 image."""
    rows: list[dict[str, object]] = []
    for number in range(num_rows):
        is_open = number % 2 == 1
        options = "" if is_open else " Select from the following choices.\n(A) 0\n(B) 2\n(C) 1\n(D) 3"
        rows.append(
            {
                "id": number,
                "query": f"How many lamps are on table {number}?{options}",
                "response": "7" if number == 3 else "a kite" if is_open else "C",
                "image": {"bytes": make_bytes(number), "path": None},
                "crop_image": {"bytes": make_bytes(100 + number, 40, 30), "path": None},
                "question_type": "oq" if is_open else "mcq",
                "bbox": [20.0, 15.0, 60.0, 45.0],
            }
        )
    return rows


CN_OPTIONS = ["（A） 红色", "（B）蓝色", "(C) 绿色", "（D） 白色", "（E） 图中没有该物体"]


def mme_cn_rows(num_rows: int = 3) -> list[dict[str, object]]:
    """MME-RealWorld-CN in lmms-eval's columns: some options have full-width brackets."""
    return [
        row | {"question": f"卡车{number}是什么颜色？", "multi-choice options": CN_OPTIONS}
        for number, row in enumerate(mme_lmms_rows(num_rows))
    ]
