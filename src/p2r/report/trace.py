"""One trace as HTML, for notebooks: the image with its boxes, the crops, the answer.

A trace holds no pixels, so its image is loaded again from where the trace says it is, or given by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from p2r.errors import P2RError
from p2r.evaluation.scoring import ScoredRow
from p2r.images.load import FileImage
from p2r.report.kit.cards import answer_text, view_reply
from p2r.report.kit.looks import Looks, Sight, load_scene, view_looks
from p2r.report.kit.page import environment, read_template
from p2r.runs.evaluation import SampleFacts
from p2r.types import ImageSource, Trace


@dataclass(frozen=True, slots=True)
class Shown:
    """A trace ready for display: HTML where a notebook asks for it, plain text elsewhere."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def show(trace: Trace, *, image: ImageSource | None = None) -> Shown:
    """Render a trace.

    Args:
        image: its image; by default the file the trace names. Without an image only texts are shown.
    """
    return Shown(_render_html(trace, image), render_text(trace))


def render_text(trace: Trace) -> str:
    """A trace in a few lines."""
    lines = [f"question: {trace.question}", f"answer:   {answer_text(trace.answer, trace.options)}"]
    if trace.verdict is not None:
        lines.append(f"verdict:  {'right' if trace.verdict.correct else 'wrong'}")
    if trace.failure is not None:
        lines.append(f"failed:   {trace.failure.message}")
    size = trace.evidence.image_wh if trace.evidence else None
    for box in trace.boxes:
        corners = box.to_pixels(*size) if size else tuple(round(value) for value in box.xyxy)
        lines.append(f"box:      {corners} {'px' if size else 'per mille'} {box.label}".rstrip())
    return "\n".join(lines)


def show_traces_in_notebooks() -> None:
    """Make a trace at the end of a notebook cell show itself. Does nothing outside IPython."""
    get_ipython = cast("Callable[[], _Shell | None] | None", getattr(sys.modules.get("IPython"), "get_ipython", None))
    shell = get_ipython() if get_ipython else None
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(Trace, lambda trace: show(trace).html)


def _render_html(trace: Trace, image: ImageSource | None) -> str:
    looks: Looks | None = None
    source = image or (FileImage(trace.image) if Path(trace.image).is_file() else None)
    problem = "" if source else f"the image {trace.image!r} is not at hand: give it with show(trace, image=...)"
    try:
        looks = view_looks(load_scene(source, [Sight(0, "", trace.boxes)], None)) if source else None
    except P2RError as error:
        problem = error.message
    template = environment().get_template("trace.html.j2")
    reply = view_reply("", ScoredRow(SampleFacts(sample_id=trace.sample_id), trace), is_primary=True)
    return template.render(trace=trace, looks_view=looks, reply=reply, problem=problem, css=read_template("looks.css"))


class _Formatter(Protocol):
    def for_type(self, kind: type[Trace], render: Callable[[Trace], str]) -> object: ...


class _Formatters(Protocol):
    formatters: dict[str, _Formatter]


class _Shell(Protocol):
    display_formatter: _Formatters
