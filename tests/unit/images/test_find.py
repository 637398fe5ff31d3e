from __future__ import annotations

import base64
import io
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from p2r.errors import ImageError
from p2r.images.find import DataUrlImage, EncodedImage, find_image, is_url
from p2r.images.load import FileImage
from p2r.images.web import WebImage


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "navy").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_name_leads_to_a_file_or_to_the_web() -> None:
    assert find_image("a.png", folder=Path("photos")) == FileImage(Path("photos/a.png"))
    assert find_image("a.png", max_image_pixels=7) == FileImage("a.png", 7)
    assert find_image(Path("http:/a.png")) == FileImage(Path("http:/a.png"))
    assert find_image("HTTPS://host/a.png", folder=Path("photos")) == WebImage("HTTPS://host/a.png")
    assert find_image("file:///data/a%20b.png", folder=Path("photos")) == FileImage(Path("/data/a b.png"))


@pytest.mark.parametrize(
    "name", ["a:b.png", "C:/a.png", "photos//a.png", "data.png", "What is http://?", "", "x" * 300]
)
def test_a_path_is_no_url(name: str) -> None:
    assert not is_url(name)


def test_a_data_url_holds_its_image() -> None:
    text = base64.b64encode(png()).decode()
    image = find_image(f"data:image/png;base64,{text}")
    assert image.load().size == (40, 30)
    assert len(image.uri) <= 60
    with pytest.raises(ImageError, match="pixels"):
        DataUrlImage(f"data:image/png;base64,{text}", max_image_pixels=5).load()


def test_a_data_url_is_read_in_every_spelling() -> None:
    buffer = io.BytesIO()
    Image.frombytes("L", (40, 30), bytes(range(240)) * 5).save(buffer, "BMP")
    text = base64.b64encode(buffer.getvalue()).decode()
    assert set("+/=") <= set(text)
    for url in (
        f"DATA:image/bmp;BASE64,{text}",
        f"data:image/bmp;base64,{quote(text, safe='')}",
        f"data:image/bmp;base64,{text.rstrip('=').replace('+', '-').replace('/', '_')}",
        f"data:;base64,{text[:40]}\r\n {text[40:]}",
        f"data:image/bmp,{quote(buffer.getvalue())}",
        f"data:image/bmp,{text}",
    ):
        assert find_image(url).load().size == (40, 30), url


@pytest.mark.parametrize("url", ["data:image/png;base64,iVBOR", "data:image/png;base64,????", "data:image/png;base64"])
def test_a_broken_data_url_is_refused(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        find_image(url).load()
    assert caught.value.hint


def test_bytes_with_a_name_are_an_image() -> None:
    image = EncodedImage(png(), "stdin")
    assert (image.uri, image.load().size) == ("stdin", (40, 30))
    with pytest.raises(ImageError, match="stdin is empty"):
        EncodedImage(b"", "stdin").load()
