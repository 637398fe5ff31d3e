"""Pages: their headline and filters, rendering them, and writing them to files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from p2r.evaluation.tables import find_text_columns
from p2r.files import explain_write_errors, replace_file
from p2r.version import __version__

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Headline:
    """The head and the foot of a page.

    lede: the result in words.
    facts: (name, value) pairs that say what was measured, and on what.
    footer: how to make the page again; what is in backticks is shown as code.
    row_name: what a row of the tables is called.
    problems: sentences about what is missing on the page.
    """

    title: str
    lede: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    footer: str = ""
    row_name: str = "Run"
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FilterButton:
    """A button that shows only the questions with one flag. count: how many have it for the run shown first."""

    key: str
    name: str
    count: int


def list_filters(names: Mapping[str, str], flags: Sequence[Sequence[str]], run: int) -> list[FilterButton]:
    """The buttons of those filters that some question falls under.

    Args:
        names: the text of each filter's button, by its key.
        flags: of each question, as "RUN:KEY".
        run: index of the run that is shown first.
    """
    used = {flag.partition(":")[2] for each in flags for flag in each}
    return [
        FilterButton(key, name, sum(f"{run}:{key}" in each for each in flags))
        for key, name in names.items()
        if key in used
    ]


def choose_printed(names: Mapping[str, str], flags: Sequence[Sequence[str]], run: int, most: int) -> set[int]:
    """The numbers, from 1, of the questions that paper shows: of every filter in turn, until there are `most`.

    Args:
        names, flags, run: as in `list_filters`; the first filter holds all questions and comes last.
    """
    numbers = range(1, len(flags) + 1)
    first, *others = ([number for number in numbers if f"{run}:{key}" in flags[number - 1]] for key in names)
    chosen: set[int] = set()
    for turn in zip_longest(*others):
        chosen |= set([number for number in turn if number is not None and number not in chosen][: most - len(chosen)])
    return chosen | set([number for number in (*first, *numbers) if number not in chosen][: most - len(chosen)])


def render_page(name: str, page: Mapping[str, object]) -> str:
    """The page as HTML. `page`: what its template shows, among it the `headline`."""
    return (
        environment()
        .get_template(name)
        .render(
            page=page,
            find_text_columns=find_text_columns,
            version=__version__,
            css=read_template("evidence.css") + read_template("report.css"),
            js=read_template("print.js") + read_template("report.js"),
        )
    )


def environment() -> Environment:
    """Templates with HTML escaping on; a name that nobody set is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["code"] = mark_code
    return made


def mark_code(text: str) -> Markup:
    """Return a text as HTML, with what it has in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def read_template(name: str) -> Markup:
    """A file of our own that goes into the page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def write_page(path: Path, html: str) -> None:
    """Write a page, and the folder that it is in.

    Raises:
        StorageError: the file cannot be written.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, html)
