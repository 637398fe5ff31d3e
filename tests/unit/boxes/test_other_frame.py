"""Many boxes of another frame are said, to each reader in the terms that it can use."""

from __future__ import annotations

import warnings

import pytest

from p2r.boxes.other_frame import FrameCount, Reader, count_frames, explain_frame
from p2r.errors import FrameWarning, P2RWarning
from p2r.types import BoxParse, Frame, Perception, Trace

FITTING = BoxParse(step="strict")
OTHER = BoxParse(step="strict", num_other_frame=1, other_frame="pixels")
NONE = BoxParse(step="none", reason="the reply names no box")


def write_other(frame: Frame | None) -> BoxParse:
    return OTHER.model_copy(update={"other_frame": frame})


def make_traces(*parses: BoxParse | None) -> list[Trace]:
    return [
        Trace(
            sample_id=str(number),
            image="image",
            question="What?",
            perception=None if parse is None else Perception(source="model:m", boxes=(), parse=parse),
        )
        for number, parse in enumerate(parses)
    ]


def test_one_reply_in_twenty_is_many() -> None:
    assert explain_frame(make_traces(OTHER, *[FITTING] * 19)).startswith("1 of 20 replies with boxes has numbers")
    assert explain_frame(make_traces(OTHER, *[FITTING] * 20)) == ""
    assert explain_frame(make_traces(OTHER, *[NONE] * 40, None)).startswith("1 of 1 reply with boxes has numbers")
    assert explain_frame(make_traces(NONE, None)) == explain_frame([]) == ""


def test_the_sentence_names_the_frame_of_most_replies_or_none() -> None:
    assert "--frame unit (" in explain_frame(make_traces(OTHER, write_other("unit"), write_other("unit")))
    assert "--frame (" in explain_frame(make_traces(write_other(None)))


@pytest.mark.parametrize(
    ("reader", "stated", "unstated"),
    [
        ("anyone", '--frame pixels (in Python, frame="pixels").', "--frame (in Python, frame=)."),
        (
            "python",
            '`frame="pixels"`, or its family with `family`.',
            "`frame`, or its family with `family`.",
        ),
        ("recipe", 'model.frame = "pixels".', "model.frame."),
    ],
)
def test_each_reader_is_told_where_it_states_the_frame(reader: Reader, stated: str, unstated: str) -> None:
    known = count_frames(make_traces(OTHER, OTHER)).explain(reader)
    assert known == (
        "2 of 2 replies with boxes have numbers that do not fit the frame in which they are read but look like pixels "
        f"of the image. Such boxes are left out; if the model writes them so, state its frame with {stated}"
    )
    unknown = count_frames(make_traces(write_other(None))).explain(reader)
    assert unknown.endswith(
        f"in which they are read. Such boxes are left out; if the model writes them so, state its frame with {unstated}"
    )


def test_counts_of_parts_add_up_to_that_of_the_whole() -> None:
    traces = make_traces(OTHER, FITTING, NONE, None, write_other("unit"), OTHER)
    whole, parts = count_frames(traces), FrameCount()
    for trace in traces:
        parts.add(count_frames([trace]))
    assert parts == whole == FrameCount(4, whole.others)
    assert whole.others == {"pixels": 2, "unit": 1}


def test_a_warning_names_the_place_and_is_a_kind_of_its_own() -> None:
    with pytest.warns(FrameWarning, match=r"^needles p2r: 1 of 1 reply"):
        count_frames(make_traces(OTHER)).warn("needles p2r")
    with pytest.warns(P2RWarning, match=r"^1 of 1 reply"):
        count_frames(make_traces(OTHER)).warn()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count_frames(make_traces(FITTING, NONE, None)).warn("needles p2r")
