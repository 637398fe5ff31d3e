"""Rows of a supervised phase, checked before its first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from p2r.config import Phase, parse_recipe  # noqa: E402
from p2r.errors import DataError  # noqa: E402
from p2r.images.load import read_image_size  # noqa: E402
from p2r.models.load import find_checkpoint  # noqa: E402
from p2r.models.local.encoding import PromptEncoder  # noqa: E402
from p2r.prompts import load_prompt_set  # noqa: E402
from p2r.training.engines.local.policy import training_profile  # noqa: E402
from p2r.training.sft.check import load_demonstrations  # noqa: E402
from p2r.training.sft.demonstrations import Demonstrations  # noqa: E402
from p2r.training.sft.encode import encode_demonstration  # noqa: E402
from p2r.types import Sample  # noqa: E402

PROMPTS = load_prompt_set("release")
CHECKPOINT = find_checkpoint("nano")
BUDGET = training_profile(CHECKPOINT, 64 * 1024).budget


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(CHECKPOINT)


def make_phase(
    folder: Path, questions: list[str], *, role: str = "answerer", num_images: int = 1, **sft: object
) -> Phase:
    Image.new("RGB", (200, 100), "red").save(folder / "a.png")
    rows = [
        {
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "red"}],
            "images": ["a.png"] * num_images,
        }
        for question in questions
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = {
        "out": "x",
        "schedule": [{"role": role, "method": "sft"}],
        "data": {"source": str(folder / "rows.jsonl")},
        "sft": sft,
    }
    return parse_recipe(table).phases()[0]


def load(phase: Phase, encoder: PromptEncoder) -> Demonstrations:
    return load_demonstrations(phase, encoder, BUDGET, PROMPTS)


def test_lengths_are_those_of_the_encoded_rows_and_long_ones_are_left_out(
    tmp_path: Path, encoder: PromptEncoder
) -> None:
    questions = ["What?", "What is the color of this thing?"]
    rows = load(make_phase(tmp_path, questions), encoder)
    lengths = [encode_demonstration(row, encoder, BUDGET).num_tokens for row in rows.rows]
    assert rows.longest == max(lengths) == lengths[1] > lengths[0]
    assert list(rows.explain()) == [f"2 of 2 rows of {tmp_path / 'rows.jsonl'} are used, read as {rows.layout}"]
    short = load(make_phase(tmp_path, questions, max_tokens=lengths[1] - 1), encoder)
    assert (len(short.rows), short.longest) == (1, lengths[0])
    assert len(load(make_phase(tmp_path, questions, max_tokens=lengths[1]), encoder).rows) == 2
    assert list(short.explain())[1] == f"1 left out: longer than {lengths[1] - 1} tokens"
    with pytest.raises(DataError, match=r"left to learn from: longer than 3 tokens \(2 rows\)") as caught:
        load(make_phase(tmp_path, questions, max_tokens=3), encoder)
    assert "sft.max_tokens" in caught.value.hint


@pytest.mark.parametrize(
    ("role", "num_images", "method"),
    [
        ("perceiver", 1, "perceiver"),
        ("answerer", 1, "reasoner_without_evidence"),
        ("answerer", 2, "reasoner_without_evidence"),
        ("reasoner", 1, "reasoner_without_evidence"),
        ("reasoner", 2, "reasoner"),
    ],
)
def test_a_roles_prompt_words_the_question(
    tmp_path: Path, encoder: PromptEncoder, role: str, num_images: int, method: str
) -> None:
    question = "Which color?\nA. red\nB. blue"
    phase = make_phase(tmp_path, [question], role=role, num_images=num_images, prompt="role")
    [row] = load(phase, encoder).rows
    sample = Sample("x", row.images[0], question, ("red", "blue"), "choice", options_in_question=True)
    assert row.turns == ((getattr(PROMPTS, method)(sample), "red"),)
    assert row.system == PROMPTS.system
    [plain] = load(make_phase(tmp_path, [question], role=role, num_images=num_images), encoder).rows
    assert (plain.system, plain.turns) == ("", ((question, "red"),))


def test_the_header_of_an_image_is_read_once(
    tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    phase, read = make_phase(tmp_path, ["What?", "Where?"], num_images=2), list[str]()

    def note(file: BinaryIO, name: str) -> tuple[int, int]:
        read.append(name)
        return read_image_size(file, name)

    monkeypatch.setattr("p2r.images.load.read_image_size", note)
    rows = load(phase, encoder).rows
    assert len(read) == 4  # two rows of two images
    assert [row.image_sizes for row in rows] == [((200, 100),) * 2] * 2


def test_a_row_that_cannot_be_asked_is_named(tmp_path: Path, encoder: PromptEncoder) -> None:
    questions = ["What?", "Is <|im_end|> it?"]
    with pytest.raises(DataError, match=r"row 'rows/2' cannot be learned from: .*im_end") as caught:
        load(make_phase(tmp_path, questions), encoder)
    assert "data.skip_bad = 1" in caught.value.hint
    with pytest.raises(DataError, match="no image, which the prompt of a role is about"):
        load(make_phase(tmp_path, questions, num_images=0, prompt="role"), encoder)


def test_a_split_of_a_single_file_is_refused(tmp_path: Path, encoder: PromptEncoder) -> None:
    phase = make_phase(tmp_path, ["What?"])
    of_a_split = phase.model_copy(update={"data": phase.data.model_copy(update={"split": "train"})})
    with pytest.raises(DataError, match=r"rows\.jsonl is a single file, which has no split 'train'"):
        load(of_a_split, encoder)
