"""Attacks through images: broken ones, bombs, too many, and files that nobody may read."""

from __future__ import annotations

import base64
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from p2r.serving.settings import Access, Limits
from tests.fakes.served import Reply, Served, data_url, serve, show, user

SECRET = "a secret that nobody may see"


def make_bomb(width: int, height: int) -> str:
    """A PNG of a few hundred bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "data:",
        "data:image/png;base64,",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,AAAA",
        f"data:text/html;base64,{base64.b64encode(b'<html>').decode()}",
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>",
        f"{data_url()[:200]}",
        "/etc/passwd",
        "image.png",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "blob:http://x/y",
        "s3://bucket/key",
        "\\\\host\\share\\a.png",
        base64.b64encode(b"\x89PNG").decode(),
    ],
)
def test_what_is_no_image_is_refused_without_a_word_about_this_machine(url: str) -> None:
    with serve() as served:
        reply = served.chat(user(show() | {"image_url": {"url": url}}, "What is it?"))
    assert (reply.status, reply.error["type"], reply.error["param"]) == (400, "invalid_request_error", "messages")
    assert "image 1" in str(reply.error["message"])
    assert "passwd" not in reply.text


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with serve() as served:
        reply = served.chat(user(show(make_bomb(60_000, 60_000)), "What is it?"))
    assert (reply.status, reply.error["code"]) == (400, "image_too_large")


def test_the_pixels_of_all_images_are_limited_together() -> None:
    with serve(limits=Limits(image_pixels=150_000)) as served:
        one = show(data_url(Image.new("RGB", (300, 300))))
        assert served.chat(user(one, "What is it?")).status == 200
        assert served.chat(user(one, one, "What is it?")).error["code"] == "image_too_large"


def test_the_number_and_the_bytes_of_images_are_limited() -> None:
    with serve(limits=Limits(num_images=2, image_bytes=2000)) as served:
        assert served.chat(user(show(), show(), "What is it?")).status == 200
        many = served.chat(user(show(), show(), show(), "What is it?"))
        assert (many.status, many.error["message"]) == (400, "the request has 3 images; this server takes 2")
        noise = Image.effect_noise((64, 64), 90).convert("RGB")
        assert "more than 0.002 MB" in str(served.chat(user(show(data_url(noise)), "What is it?")).error["message"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_images_of_the_usual_kinds_are_read(kind: str) -> None:
    with serve() as served:
        body: Any = served.chat(user(show(data_url(Image.new("RGB", (64, 48)), kind)), "What is it?")).body
    assert body["p2r"]["image_wh"] == [64, 48]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image, beside a secret."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    for place in (folder / "a b.png", folder / "below" / "c.png", tmp_path / "secret.png"):
        Image.new("RGB", (80, 40)).save(place)
    (folder / "notes.txt").write_text(SECRET)
    (tmp_path / "images2").mkdir()
    Image.new("RGB", (80, 40)).save(tmp_path / "images2" / "a.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    return folder


def ask_about_file(served: Served, url: str) -> Reply:
    return served.chat(user(show(url), "What is it?"))


def test_files_below_an_allowed_folder_are_read(folder: Path) -> None:
    with serve(access=Access(image_folders=(folder,))) as served:
        for url in (
            (folder / "a b.png").as_uri(),
            f"file://localhost{folder}/below/c.png",
            f"file://{folder}/below/../a b.png",
        ):
            body: Any = ask_about_file(served, url).body
            assert body["p2r"]["image_wh"] == [80, 40]


def test_there_may_be_several_folders(folder: Path) -> None:
    with serve(access=Access(image_folders=(folder / "below", folder.parent / "images2"))) as served:
        asked = [ask_about_file(served, url.as_uri()).status for url in (folder / "below/c.png", folder / "a b.png")]
        asked += [ask_about_file(served, (folder.parent / "images2" / "a.png").as_uri()).status]
    assert asked == [200, 400, 200]


def test_no_other_file_is_read_nor_told_apart_from_none(folder: Path) -> None:
    outside = [
        f"file://{folder}/../secret.png",
        f"file://{folder}/%2e%2e/secret.png",
        f"file://{folder}/link.png",
        f"file://{folder}/out/secret.png",
        f"file://{folder.parent}/images2/a.png",
        f"file://{folder}/pipe.png",
        f"file://{folder}",
        f"file://{folder}/none.png",
        f"file://{folder}/a%00.png",
        f"file://otherhost{folder}/below/c.png",
        "file:///dev/zero",
        "file:///proc/self/environ",
        f"file://{folder}/{'x' * 5000}.png",
    ]
    with serve(access=Access(image_folders=(folder,))) as served:
        replies = [ask_about_file(served, url) for url in outside]
        text = ask_about_file(served, f"file://{folder}/notes.txt")
    assert {(reply.status, str(reply.error["message"])) for reply in replies} == {
        (400, "image 1 is not a file that this server reads")
    }
    assert text.status == 400
    assert SECRET not in text.text and "images" not in text.text


def test_no_file_is_read_unless_told(folder: Path) -> None:
    with serve() as served:
        assert ask_about_file(served, (folder / "a b.png").as_uri()).status == 400


def test_a_large_file_is_refused_before_it_is_read(folder: Path) -> None:
    os.truncate(folder / "a b.png", 10_000_000)
    with serve(access=Access(image_folders=(folder,)), limits=Limits(image_bytes=100_000)) as served:
        assert "more than 0.1 MB" in ask_about_file(served, f"file://{folder}/a b.png").text
