"""The page at `/`, which asks this server as any other client does. It needs no key itself, and holds nothing secret.

Its policy lets a browser load what this server sends and nothing else, run no script but the page's files, and make
no HTML of texts: what a model says, or a client, stays text.
"""

from __future__ import annotations

import asyncio
import io
from functools import lru_cache
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from p2r.benchmarks.needles import Needles
from p2r.dialogue import Model
from p2r.evidence import BOX_COLORS
from p2r.models.known import is_shipped
from p2r.models.load import loading_of
from p2r.report.kit.page import environment, read_template
from p2r.serving.refusal import NOT_FOUND
from p2r.version import __version__

FOLDER = Path(__file__).parent / "page_files"
ROOT = "/page/"
EXAMPLES = (0, 8, 7)
"""Needles of seed 0 that the small model answers in two looks and not in one."""

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_KINDS = {".css": "text/css", ".js": "text/javascript", ".png": "image/png"}
_KIT = {"kit.css": ("evidence.css", "report.css"), "print.js": ("print.js",)}
_SCRIPTS = ("page.js", "turn.js", "viewer.js", "boxes.js", "elements.js", "client.js")
_IMAGES = tuple(f"example-{number}.png" for number in range(1, 1 + len(EXAMPLES)))
FILES = (*_KIT, "page.css", *_SCRIPTS, *_IMAGES)
PAGE_PATHS = frozenset({"/", *(f"{ROOT}{name}" for name in FILES)})
"""The paths of the page and its files."""


def add_page(app: FastAPI, model: Model) -> None:
    """Let an application serve the page and its files.

    Args:
        model: the one that is served; the page tells what a shipped one can be asked.
    """
    is_small = is_shipped(loading_of(model).spec)

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return _respond(_write_page(is_small=is_small), "text/html")

    @app.get(ROOT + "{name}", include_in_schema=False)
    async def send_file(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(NOT_FOUND)
        data = await asyncio.to_thread(_draw_example, _IMAGES.index(name)) if name in _IMAGES else _read_file(name)
        return _respond(data, _KINDS[Path(name).suffix])


def _respond(content: str | bytes, kind: str) -> Response:
    return Response(content, media_type=kind, headers=_HEADERS)


@lru_cache(maxsize=2)
def _write_page(*, is_small: bool) -> str:
    template = environment().from_string((FOLDER / "page.html.j2").read_text(encoding="utf-8"))
    questions = [Needles(num_samples=max(EXAMPLES) + 1)[index].question for index in EXAMPLES]
    examples = [(f"{ROOT}{name}", question) for name, question in zip(_IMAGES, questions, strict=True)]
    return template.render(root=ROOT, examples=examples, is_small=is_small, colors=BOX_COLORS, version=__version__)


@lru_cache(maxsize=len(FILES))
def _read_file(name: str) -> str:
    if name in _KIT:
        return "".join(map(read_template, _KIT[name]))
    return (FOLDER / name).read_text(encoding="utf-8")


@lru_cache(maxsize=len(EXAMPLES))
def _draw_example(number: int) -> bytes:
    index = EXAMPLES[number]
    data = io.BytesIO()
    Needles(num_samples=index + 1)[index].image.load().save(data, "PNG")
    return data.getvalue()
