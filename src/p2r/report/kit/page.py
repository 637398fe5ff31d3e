"""Pages: templates with escaping on, and files written whole."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from p2r.files import explain_write_errors, replace_file

TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    """Templates with HTML escaping on, and an error for any name they use and nobody set."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def read_template(name: str) -> Markup:
    """A file of the templates that is ours and goes into the page as it stands."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def write_page(path: Path, html: str) -> None:
    """Raises StorageError when the file cannot be written."""
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, html)
