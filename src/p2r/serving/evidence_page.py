"""The evidence of an answer as one HTML file, the one that `p2r ask --html` writes."""

from __future__ import annotations

from p2r.dialogue import Budget
from p2r.report.asked.page import build_asked_report
from p2r.runs.asked import AskedPlace, AskedQuestions
from p2r.types import ImageSource, Trace


def write_evidence(trace: Trace, image: ImageSource, budget: Budget) -> str:
    """Return the page. It names no place of this machine. Blocks: call it in a thread.

    Args:
        budget: of the model that answered.
    """
    place = AskedPlace(working_directory="", budget=budget)
    group = AskedQuestions(trace.image, (trace,), place=place)
    return build_asked_report([group], images={trace.sample_id: image})
