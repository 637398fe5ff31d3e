"""Rows to learn replies from: what is read of each layout, what is filtered, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks.base import Sieve
from p2r.benchmarks.layout import Source
from p2r.config import SftSettings
from p2r.errors import DataError
from p2r.training.sft.demonstrations import Demonstrations, read_demonstrations

QUESTION, REPLY = "What is it?", "<think>Round.</think><answer>A ball</answer>"


def read(
    folder: Path, rows: Sequence[Mapping[str, object]], *, skip_bad: int = 0, **settings: object
) -> Demonstrations:
    for name, size in (("a.png", (40, 30)), ("b.png", (64, 64)), ("thin.png", (200, 27))):
        Image.new("RGB", size, "red").save(folder / name)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = Source(path, Sieve(skip_bad=skip_bad))
    return read_demonstrations(source, SftSettings.model_validate(settings))


def chat(*texts: str, system: str = "") -> list[dict[str, str]]:
    messages = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *messages] if system else messages


SHAREGPT = [{"from": "human", "value": f"<image>{QUESTION}"}, {"from": "gpt", "value": REPLY}]


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"conversations": SHAREGPT, "images": ["a.png"]}, "ShareGPT"),
        ({"conversations": SHAREGPT, "image": "a.png"}, "LLaVA"),
        ({"messages": chat(f"<image>{QUESTION}", REPLY), "images": ["a.png"]}, "OpenAI"),
        ({"query": QUESTION, "response": REPLY, "images": ["a.png"]}, "ms-swift"),
        ({"instruction": QUESTION, "input": "", "output": REPLY, "images": ["a.png"]}, "Alpaca"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": QUESTION}],
                    },
                    {"role": "assistant", "content": REPLY},
                ]
            },
            "OpenAI",
        ),
    ],
)
def test_words_of_each_layout_are_taken_as_they_are(tmp_path: Path, row: Mapping[str, object], layout: str) -> None:
    found = read(tmp_path, [row])
    [demonstration] = found.rows
    assert demonstration.turns == ((QUESTION, REPLY),)
    assert [image.load().size for image in demonstration.images] == [(40, 30)]
    assert layout in found.layout


def test_every_turn_and_every_image_and_the_system_message_are_kept(tmp_path: Path) -> None:
    rows = [
        {"messages": chat("<image><image>One?", "1", "Two?", "2", system="Be brief."), "images": ["a.png", "b.png"]},
        {"messages": chat(QUESTION, REPLY), "images": ["b.png"], "system": "Look.", "id": 7},
        {"messages": chat("No image?", "None."), "images": []},
    ]
    first, second, third = read(tmp_path, rows).rows
    assert first.turns == (("One?", "1"), ("Two?", "2"))
    assert [image.load().size for image in first.images] == [(40, 30), (64, 64)]
    assert (first.system, first.id) == ("Be brief.", "rows/1")
    assert (second.system, second.id) == ("Look.", "7")
    assert (third.images, third.turns, third.system) == ((), (("No image?", "None."),), "")


def test_filters_leave_rows_out_and_say_why(tmp_path: Path) -> None:
    rows = [
        {"messages": chat("A?", "So. LET ME rethink it. B."), "images": ["a.png"]},
        {"messages": chat("A?", "B."), "images": ["thin.png"]},
        {"messages": chat("A?", "C."), "images": ["a.png"]},
    ]
    found = read(tmp_path, rows, leave_out=["let me rethink it"], min_image_side=28)
    assert [row.turns[0][1] for row in found.rows] == ["C."]
    assert [each.reason for each in found.left_out] == [
        "the reply holds 'let me rethink it'",
        "an image side is below 28 pixels",
    ]
    assert len(read(tmp_path, rows, min_image_side=27).rows) == 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": chat("A?"), "images": ["a.png"]}, "take turns"),
        ({"messages": chat("A?", "B", "C?"), "images": ["a.png"]}, "take turns"),
        ({"messages": [*chat("A?", "B")][::-1], "images": ["a.png"]}, "take turns"),
        ({"messages": chat("A?", " "), "images": ["a.png"]}, "reply 1 is empty"),
        ({"messages": chat("<image>", "B"), "images": ["a.png"]}, "question 1 is empty"),
        ({"messages": chat("A?", "B"), "images": ["gone.png"]}, "gone.png"),
        ({"messages": chat("A?", "B"), "images": ["rows.jsonl"]}, "rows.jsonl"),
    ],
)
def test_a_row_that_cannot_be_learned_from_is_named(tmp_path: Path, row: Mapping[str, object], said: str) -> None:
    good = {"messages": chat("A?", "B"), "images": ["a.png"]}
    with pytest.raises(DataError, match="line 2 cannot be learned from") as caught:
        read(tmp_path, [good, row])
    assert said in caught.value.message
    assert "data.skip_bad = 1" in caught.value.hint
    found = read(tmp_path, [good, row], skip_bad=1)
    assert len(found.rows) == 1
    assert said in found.bad[0].reason


def test_a_file_without_replies_or_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the known layouts"):
        read(tmp_path, [{"image": "a.png", "question": "A?"}])
    with pytest.raises(DataError, match="holds no rows"):
        read(tmp_path, [])


@pytest.mark.parametrize(
    ("leave_out", "images", "said", "hint"),
    [
        (["b"], ["a.png", "a.png"], "the reply holds 'b' (2 rows)", "change sft.leave_out, or"),
        ([], ["thin.png", "thin.png"], "an image side is below 28 pixels (2 rows)", "change sft.min_image_side, or"),
        (["first"], ["a.png", "thin.png"], "(1 row); an image side", "change sft.leave_out or sft.min_image_side, or"),
        ([], ["gone.png", "thin.png"], "(1 row); cannot", "change sft.min_image_side, or"),
        ([], ["gone.png", "gone.png"], "(2 rows)", "mend the rows, or give others"),
    ],
)
def test_what_left_out_all_rows_is_named(
    tmp_path: Path, leave_out: list[str], images: list[str], said: str, hint: str
) -> None:
    replies = ("B, first", "B, second")
    rows = [{"messages": chat("A?", reply), "images": [image]} for reply, image in zip(replies, images, strict=True)]
    with pytest.raises(DataError, match="is left to learn from") as caught:
        read(tmp_path, rows, leave_out=leave_out, skip_bad=2)
    assert all(part in caught.value.message for part in said.split("cannot")), caught.value.message
    assert caught.value.hint.startswith(hint)


def test_a_row_whose_words_leave_it_out_needs_no_image(tmp_path: Path) -> None:
    rows = [
        {"messages": chat("A?", "Sorry."), "images": ["gone.png"]},
        {"messages": chat("A?", "B."), "images": ["a.png"]},
    ]
    assert len(read(tmp_path, rows, leave_out=["sorry"]).rows) == 1


def test_a_broken_row_is_named_where_no_row_tells_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": [\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: not a JSON object"):
        read_demonstrations(Source(path, Sieve()), SftSettings())
