"""Images on the web, from a server on this machine: fetched within limits, and every refusal says what it is."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from itertools import count

import pytest
from PIL import Image

from p2r.errors import ImageError
from p2r.images.web import WebImage
from tests.fakes.web_server import Page, serve_pages


def png(size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "navy").save(buffer, "PNG")
    return buffer.getvalue()


def refuse(image: WebImage) -> ImageError:
    with pytest.raises(ImageError) as caught:
        image.load()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "text/plain"])
def test_an_image_is_fetched_whatever_its_server_calls_it(kind: str) -> None:
    with serve_pages({"/a%20b.png?size=1": Page(png(), kind)}) as server:
        assert WebImage(f"{server.url}/a b.png?size=1").load().size == (40, 30)
        assert server.requests[0][1]["User-Agent"].startswith("p2r/")


def test_a_redirect_is_followed_on_the_web_alone() -> None:
    pages = {
        "/old": Page(status=302, headers={"Location": "/a.png"}),
        "/out": Page(status=302, headers={"Location": "ftp://host/a.png"}),
        "/file": Page(status=302, headers={"Location": "file:///etc/hosts"}),
        "/a.png": Page(png()),
    }
    with serve_pages(pages) as server:
        assert WebImage(f"{server.url}/old").load().size == (40, 30)
        assert "leads to 'ftp://host/a.png', not to the web" in refuse(WebImage(f"{server.url}/out")).message
        assert "is not allowed" in refuse(WebImage(f"{server.url}/file")).message


def test_a_password_goes_to_its_server_and_nowhere_else() -> None:
    with serve_pages({"/a.png": Page(png())}) as other:
        pages = {"/a.png": Page(png()), "/far": Page(status=302, headers={"Location": f"{other.url}/a.png"})}
        with serve_pages(pages) as server:
            host = server.url.removeprefix("http://")
            image = WebImage(f"http://me:s%40cret@{host}/a.png")
            assert image.load().size == (40, 30)
            assert server.requests[0][1]["Authorization"] == "Basic bWU6c0BjcmV0"
            assert WebImage(f"http://me:secret@{host}/far").load().size == (40, 30)
            assert "Authorization" not in other.requests[0][1]
            assert image.uri == f"http://***@{host}/a.png"
            gone = refuse(WebImage(f"http://me:secret@{host}/gone.png"))
            assert "secret" not in str(gone) and host in gone.message


@pytest.mark.parametrize(
    "page", [Page(b"<p>hello", "text/html; charset=utf-8"), Page(b"\n<!DOCTYPE html><p>", "image/png")]
)
def test_a_web_page_is_named_as_one(page: Page) -> None:
    with serve_pages({"/a.png": page}) as server:
        error = refuse(WebImage(f"{server.url}/a.png"))
    assert "is a web page (HTML), not an image" in error.message
    assert "address of the image itself" in error.hint


def test_what_is_no_image_is_named_with_its_address() -> None:
    with serve_pages({"/a.pdf": Page(b"%PDF-1.7", "application/pdf")}) as server:
        assert f"{server.url}/a.pdf is a PDF" in refuse(WebImage(f"{server.url}/a.pdf")).message


@pytest.mark.parametrize(("status", "hint"), [(404, "check the address"), (403, "download it"), (500, "browser")])
def test_a_refusal_has_its_status(status: int, hint: str) -> None:
    with serve_pages({"/a.png": Page(b"no", "text/plain", status)}) as server:
        error = refuse(WebImage(f"{server.url}/a.png"))
    assert f"its server replied {status}" in error.message
    assert hint in error.hint


def test_a_file_over_the_limit_is_refused_even_if_its_length_is_not_told() -> None:
    with serve_pages({"/a.png": Page(b"x" * 300_000)}) as server:
        assert "has more than 0.2 MB" in refuse(WebImage(f"{server.url}/a.png", max_bytes=200_000)).message
        exact = WebImage(f"{server.url}/a.png", max_bytes=300_000)
        assert "not an image" in refuse(exact).message


def test_an_image_over_the_limit_of_pixels_is_refused() -> None:
    with serve_pages({"/a.png": Page(png())}) as server:
        assert "the limit is 1,199" in refuse(WebImage(f"{server.url}/a.png", max_image_pixels=1199)).message


def test_a_silent_server_is_given_up() -> None:
    with serve_pages({"/a.png": Page(png(), waits=True)}) as server:
        error = refuse(WebImage(f"{server.url}/a.png", timeout_s=0.2))
    assert "did not arrive within 0.2 s" in error.message


def test_a_server_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Callable[[], int] = count().__next__
    monkeypatch.setattr(time, "monotonic", lambda: float(clock()) * 40)
    with serve_pages({"/a.png": Page(b"x" * 1_000_000)}) as server:
        assert "did not arrive within 60 s" in refuse(WebImage(f"{server.url}/a.png")).message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9/a.png", "cannot be fetched: connection refused"),
        ("http://nowhere.invalid/a.png", "cannot be fetched: there is no such host, or no network"),
        ("http://[half/a.png", "cannot be fetched"),
        ("http:///a.png", "cannot be fetched"),
        ("s3://bucket/a.png", "is not a web address"),
        ("ftp://host/a.png", "is not a web address"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(url: str, message: str) -> None:
    assert message in refuse(WebImage(url)).message


def test_an_address_of_https_without_a_certificate_says_so() -> None:
    with serve_pages({}) as server:
        assert "cannot be fetched" in refuse(WebImage(server.url.replace("http:", "https:") + "/a.png")).message
