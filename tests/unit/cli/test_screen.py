"""What is printed for people: traces, tables and progress bars."""

from __future__ import annotations

import io

from rich.console import Console

from p2r.cli.screen import count_progress, print_trace, progress
from p2r.types import Completion, Perception, ToolUse
from tests.fakes.reports import GOLD, make_sample, make_trace


def make_console(*, is_terminal: bool = False) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=is_terminal, width=100, highlight=False), text


def print_lines(**changes: object) -> list[str]:
    console, text = make_console()
    print_trace(console, make_trace(make_sample("a"), boxes=(GOLD,)).model_copy(update=changes))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_a_trace_is_printed_without_the_question_that_was_just_typed() -> None:
    assert print_lines(seconds=1.5) == [
        "answer     A. a star",
        "verdict    right",
        "looked at  x 64-192, y 48-144 px  sail  (crop 1)",
        "cost       0 visual tokens (), 1.50 s",
        "reply      <answer>A</answer>",
    ]


def test_a_reply_that_was_cut_off_is_marked() -> None:
    cut_off = Completion(text="so, so", finish_reason="length", model="m")
    assert "reply (cut off at the token limit)  so, so" in print_lines(reasoning=cut_off)


def test_a_trace_without_boxes_says_what_was_looked_at() -> None:
    assert "looked at  the whole image, once" in print_lines(perception=Perception(source="none", boxes=()))
    assert "looked at  the whole image: no boxes" in print_lines(perception=Perception(source="m", boxes=()))


def test_boxes_that_a_tool_showed_are_printed() -> None:
    call = Completion(text="", finish_reason="stop", model="m", tool_use=ToolUse(boxes=(GOLD,)))
    reply = Completion(text="A", finish_reason="stop", model="m", earlier=(call,))
    record = make_trace(make_sample("a")).evidence
    lines = print_lines(perception=Perception(source="none", boxes=()), evidence=record, reasoning=reply)
    assert "looked at  x 64-192, y 48-144 px  sail" in [line.rstrip() for line in lines]


def test_bars_are_shown_on_a_terminal_alone() -> None:
    for is_terminal in (False, True):
        console, text = make_console(is_terminal=is_terminal)
        with count_progress(console, "images") as on_done:
            on_done(2, 4)
        assert ("images" in text.getvalue() and "2/4" in text.getvalue()) == is_terminal


def test_bars_can_show_a_text_beside_them_and_can_be_hidden() -> None:
    for is_shown in (False, True):
        console, text = make_console(is_terminal=True)
        with progress(console, field="accuracy", is_shown=is_shown) as bars:
            bars.add_task("needles", total=3, accuracy="66.7%")
        assert ("66.7%" in text.getvalue()) == is_shown
