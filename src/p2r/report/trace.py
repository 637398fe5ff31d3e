"""One trace for people: as lines of text, as HTML in a notebook, and as files in a folder.

A trace holds no pixels. Its image is loaded again from where the trace says it is, or passed by the caller.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from p2r.errors import P2RError
from p2r.evidence import regather
from p2r.files import explain_write_errors
from p2r.images.budget import FullImage
from p2r.images.load import FileImage
from p2r.images.remember import recall_image
from p2r.report.kit.evidence_view import EvidenceView, RunTrace, load_evidence, view_evidence
from p2r.report.kit.page import environment, read_template
from p2r.report.kit.saved_image import ANNOTATED_FILE, name_crop
from p2r.report.kit.trace_view import TracedBox, view_trace
from p2r.runs.asked import TRACE_FILE
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
    """Render a trace for a notebook.

    Args:
        image: the image that was asked about; by default the one of this process, while it is alive, or the file that
            the trace names. Without an image only texts are shown.
    """
    return Shown(_write_html(trace, image), "\n".join(f"{name:<11}{text}" for name, text in list_lines(trace)))


def list_lines(trace: Trace) -> list[tuple[str, str]]:
    """A trace in a few lines, each with its name: the question, the answer, where it was found, its cost, the reply.

    A line that continues the one above has the name "".
    """
    view = view_trace(trace)
    lines = [("question", view.question), ("answer", view.reply.answer)]
    if view.reply.verdict in ("right", "wrong"):
        lines.append(("verdict", view.reply.verdict))
    if view.reply.problem:
        lines.append(("failed", view.reply.problem))
    places = [_describe_box(box) for box in view.boxes] or [view.where]
    lines += [("looked at" if index == 0 else "", place) for index, place in enumerate(places)]
    lines.append(("cost", view.cost))
    if trace.reasoning is not None:
        text = view.reply.before + view.reply.span + view.reply.after
        lines.append((f"reply{' (cut off at the token limit)' if view.is_cut_off else ''}", text.strip()))
    return lines


def save_trace(folder: Path, trace: Trace, image: ImageSource) -> tuple[Path, ...]:
    """Write trace.json and, when there was evidence, annotated.png and crop_1.png to crop_3.png, all losslessly.

    Files of these names from an earlier question are replaced or removed.

    Raises:
        StorageError: the folder cannot be written.
        ImageError: the image cannot be loaded again, or is not the one that the trace is about.
    """
    evidence = regather(FullImage(image.load()), trace)
    images = {name_crop(number): crop for number, crop in enumerate(evidence.crops, start=1)}
    if evidence.annotated is not None:
        images = {ANNOTATED_FILE: evidence.annotated, **images}
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (folder / ANNOTATED_FILE, *folder.glob("crop_[0-9].png")):
            stale.unlink(missing_ok=True)
        for name, each in images.items():
            each.save(folder / name, compress_level=1)
        (folder / TRACE_FILE).write_text(_write_json(trace), encoding="utf-8")
    return tuple(folder / name for name in (*images, TRACE_FILE))


def holds_trace(folder: Path, trace: Trace) -> bool:
    """True if `save_trace` has written this very trace into the folder, completely: trace.json is written last."""
    path = folder / TRACE_FILE
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == _write_json(trace)


def show_traces_in_notebooks() -> None:
    """Display a trace at the end of a notebook cell as HTML. Does nothing outside IPython."""
    get_ipython = cast("Callable[[], _Shell | None] | None", getattr(sys.modules.get("IPython"), "get_ipython", None))
    shell = get_ipython() if get_ipython else None
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(Trace, lambda trace: show(trace).html)


def _write_html(trace: Trace, image: ImageSource | None) -> str:
    images: EvidenceView | None = None
    source = image or recall_image(trace) or (FileImage(trace.image) if _is_file(trace.image) else None)
    problem = "" if source else f"the image {trace.image!r} was not found: pass it as show(trace, image=...)"
    try:
        images = view_evidence(load_evidence(source, [RunTrace(0, "", trace)], None)) if source else None
    except P2RError as error:
        problem = error.message
    template = environment().get_template("trace.html.j2")
    return template.render(trace=view_trace(trace), images=images, problem=problem, css=read_template("evidence.css"))


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long, or a null byte
        return False


def _write_json(trace: Trace) -> str:
    return trace.model_dump_json(indent=2) + "\n"


def _describe_box(box: TracedBox) -> str:
    """A box's corners in pixels of the full image, its label, and the crop that it became."""
    if box.corners_px is None:
        left, top, right, bottom, unit = *(round(value) for value in box.box.xyxy), "per mille"
    else:
        left, top, right, bottom, unit = *box.corners_px, "px"
    label = f"  {box.box.label}" if box.box.label else ""
    crop = f"  (crop {box.crop})" if box.crop is not None else ""
    return f"x {left}-{right}, y {top}-{bottom} {unit}{label}{crop}"


class _Formatter(Protocol):
    def for_type(self, kind: type[Trace], render: Callable[[Trace], str]) -> object: ...


class _Formatters(Protocol):
    formatters: dict[str, _Formatter]


class _Shell(Protocol):
    display_formatter: _Formatters
