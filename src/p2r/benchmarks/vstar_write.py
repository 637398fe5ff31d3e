"""Write choice questions in the three layouts of V*, for tools that read those; `vstar.py` reads them back."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from p2r.benchmarks.files.encoded_image import encode_jpeg
from p2r.benchmarks.files.parquet_file import write_parquet
from p2r.benchmarks.options import join_question
from p2r.errors import DataError
from p2r.files import explain_write_errors, replace_file, replace_folder
from p2r.images.load import read_size
from p2r.types import LETTERS, Sample

CLOSING = "Answer with the option's letter from the given choices directly."
NEEDLE_TYPES = dict.fromkeys(("attribute", "pair", "text", "absent"), "direct_attributes") | {
    "relation": "relative_position"
}
"""V*'s two types, by the family of a needle."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A sample as V* states it. number: counted from 0."""

    number: int
    sample: Sample
    text: str
    target: str

    @property
    def category(self) -> str:
        return NEEDLE_TYPES.get(self.sample.category, self.sample.category or "direct_attributes")

    @property
    def listed_text(self) -> str:
        """The question, its options as lines "(A) ...", and the sentence that asks for a letter."""
        return f"{join_question(self.text, self.sample.options)}\n{CLOSING}"


def write_vstar(samples: Iterable[Sample], folder: Path) -> int:
    """Write the original layout: `<type>/sa_N.jpg` and `sa_N.json`, and `test_questions.jsonl`.

    The JSON holds boxes [x, y, width, height] in pixels and states the right option first; `test_questions.jsonl` keeps
    the samples' order of options. The folder appears when it is complete, in place of an older one.

    Returns:
        The number of samples written.

    Raises:
        DataError: a sample is not a choice, or has no target.
    """
    rows: list[dict[str, object]] = []
    with replace_folder(folder, resumable=False) as draft:
        for question in _read(samples):
            place, name = draft / question.category, f"sa_{question.number}"
            place.mkdir(exist_ok=True)
            (place / f"{name}.jpg").write_bytes(encode_jpeg(question.sample.image))
            size = read_size(question.sample.image)
            right, options = LETTERS.index(question.target), question.sample.options
            corners = [box.to_pixels(*size) for box in question.sample.gold_boxes]
            annotation = {
                "target_object": [box.label for box in question.sample.gold_boxes],
                "bbox": [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in corners],
                "question": question.text,
                "options": [options[right], *options[:right], *options[right + 1 :]],
            }
            (place / f"{name}.json").write_text(json.dumps(annotation, ensure_ascii=False), encoding="utf-8")
            rows.append({"image": f"{question.category}/{name}.jpg", **_state(question)})
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (draft / "test_questions.jsonl").write_text(lines, encoding="utf-8")
    return len(rows)


def write_vstar_lmms(samples: Iterable[Sample], path: Path) -> int:
    """Write lmms-eval's layout, a parquet file with the images inside. Returns and raises as `write_vstar`."""
    rows = [
        {
            "image": {
                "bytes": encode_jpeg(question.sample.image),
                "path": f"{question.category}/sa_{question.number}.jpg",
            },
            **_state(question),
        }
        for question in _read(samples)
    ]
    write_parquet(rows, path)
    return len(rows)


def write_vstar_tsv(samples: Iterable[Sample], path: Path) -> int:
    """Write VLMEvalKit's layout, a TSV file with base64 images and a column for each option.

    Returns and raises as `write_vstar`.
    """
    questions = list(_read(samples))
    letters = LETTERS[: max((len(question.sample.options) for question in questions), default=2)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["index", "image", "question", *letters, "answer", "category"])
    for question in questions:
        options = [*question.sample.options, *[""] * (len(letters) - len(question.sample.options))]
        image = base64.b64encode(encode_jpeg(question.sample.image)).decode()
        writer.writerow([question.number, image, question.text, *options, question.target, question.category])
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.getvalue())
    return len(questions)


def _state(question: _Question) -> dict[str, object]:
    """The fields that the original's list and lmms-eval's table share."""
    return {
        "text": question.listed_text,
        "category": question.category,
        "label": question.target,
        "question_id": str(question.number),
    }


def _read(samples: Iterable[Sample]) -> Iterator[_Question]:
    for number, sample in enumerate(samples):
        if sample.answer_form != "choice" or not sample.options or sample.target is None:
            raise DataError(
                f"sample {sample.id!r} is not a choice with a right option, which V*'s layouts need",
                hint="leave out such samples, or choose another layout, such as questions",
            )
        yield _Question(number, sample, _find_text(sample), sample.target)


def _find_text(sample: Sample) -> str:
    """The question without its options."""
    if not sample.options_in_question:
        return sample.question
    text = sample.question.partition("\n(A)")[0]
    if join_question(text, sample.options) != sample.question:
        raise DataError(
            f"sample {sample.id!r} states its options in another way than V*: {sample.question[-60:]!r}",
            hint="V*'s layouts hold lines that begin with (A), (B), ...",
        )
    return text
