"""The page that `p2r ask --html` writes: the evidence of one question, or of many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from p2r.api import P2R
from p2r.cli.screen import count_progress, make_console
from p2r.errors import StorageError
from p2r.files import check_folder
from p2r.report.asked.page import build_asked_report
from p2r.report.kit.page import write_page
from p2r.runs.asked import AskedPlace, AskedQuestions, BatchSettings
from p2r.types import Sample, Trace

HtmlFile = Annotated[
    Path | None,
    typer.Option(
        help="Write a page with the image, boxes, crops and reply of each question into this file.",
        show_default=False,
        rich_help_panel="Files",
    ),
]


def check_page(path: Path | None) -> None:
    """Refuse a page that cannot be written, before anything is asked.

    Raises:
        StorageError: there is a folder of that name, or the folder that it would be in cannot be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise StorageError(f"{path} is a folder", hint="give the page the name of a file: `html=page.html`")
    check_folder(path.parent)


def find_place(p2r: P2R) -> AskedPlace:
    """Return where relative paths begin, and the budget of the model that answers."""
    return AskedPlace(working_directory=str(Path.cwd()), budget=p2r.budget)


def write_asked_page(
    path: Path,
    name: str,
    traces: Sequence[Trace],
    samples: Iterable[Sample],
    p2r: P2R,
    settings: BatchSettings | None = None,
) -> None:
    """Write the page, and say where it is.

    Args:
        name: what was asked about.
        samples: with the images of the traces.

    Raises:
        StorageError: it cannot be written.
    """
    console = make_console(stderr=True)
    images = {sample.id: sample.image for sample in samples}
    with count_progress(console, "images") as on_done:
        html = build_asked_report(
            [AskedQuestions(name, tuple(traces), settings, find_place(p2r))], images=images, on_done=on_done
        )
    write_page(path, html)
    console.print(f"page: {path}", markup=False, soft_wrap=True)
