"""A trace in words."""

from __future__ import annotations

from p2r.report.kit.trace_view import view_reply
from p2r.types import Answer
from tests.fakes.reports import make_sample, make_trace


def test_of_a_reply_that_is_too_long_the_answer_stays() -> None:
    trace = make_trace(make_sample("a"), letter=None, reply="so " * 1000 + "<answer>A</answer>" + " well" * 1000)
    start = 3000 + len("<answer>")
    answered = trace.model_copy(update={"answer": Answer(text="A", letter="A", span=(start, start + 1))})
    reply = view_reply(answered, max_chars=200)
    assert reply.span == "A"
    assert reply.before.endswith("<answer>") and reply.after.startswith("</answer>")
    assert "characters left out" in reply.before
    assert len(reply.before) < 260
