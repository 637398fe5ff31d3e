from __future__ import annotations

import base64
import io
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from p2r.errors import DataError, ImageError
from p2r.images.find import EncodedImage, WrittenImage, find_image, is_url
from p2r.images.load import FileImage
from p2r.images.unpack import unpack
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
        WrittenImage(f"data:image/png;base64,{text}", max_image_pixels=5).load()


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


@pytest.mark.parametrize("wrong", ["é", "–", "…", "ｉ", "图", "🙂"])
@pytest.mark.parametrize("start", ["data:image/png;base64,", "DATA:;base64,", "data:image/png;name=café.png;base64,"])
def test_a_character_that_base64_does_not_have_is_named_with_its_place(wrong: str, start: str) -> None:
    text = base64.b64encode(png()).decode()
    url = f"{start}{text[:20]}{wrong}{text[20:]}"
    with pytest.raises(ImageError) as caught:
        find_image(url).load()
    place = len(start) + 21
    assert f"is not base64: it holds {wrong!r} at character {place} of {len(url)}" in caught.value.message
    assert caught.value.hint == "it was cut off or altered; copy or download it again"
    with pytest.raises(DataError, match="is not base64: it holds"):
        unpack(f"{text[:20]}{wrong}{text[20:]}".encode())


def test_blanks_and_names_of_any_alphabet_do_no_harm() -> None:
    text = base64.b64encode(png()).decode()
    for url in (
        f"data:image/png;base64,{text[:20]}\u00a0\u200b{text[20:]}\ufeff",
        f"data:image/png;name=café.png;base64,{text}",
        f"data:image/png;base64,\u3000{text}",
    ):
        assert find_image(url).load().size == (40, 30), ascii(url)


def test_other_faults_of_a_data_url_are_named_too() -> None:
    text = base64.b64encode(png()).decode()
    for url, said in {
        "data:image/svg+xml,<svg>é</svg>": "a drawing",
        "data:image/svg+xml;utf8,<svg></svg>": "a drawing",
        f"data:image/png;base64,\ud800{text}": "is not base64",
    }.items():
        with pytest.raises(ImageError, match=said):
            find_image(url).load()


def test_an_image_file_is_never_taken_for_text() -> None:
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        Image.new("RGB", (40, 30), "navy").save(buffer, kind)
        assert unpack(buffer.getvalue()) == buffer.getvalue()


def test_bytes_with_a_name_are_an_image() -> None:
    image = EncodedImage(png(), "stdin")
    assert (image.uri, image.load().size) == ("stdin", (40, 30))
    with pytest.raises(ImageError, match="stdin is empty"):
        EncodedImage(b"", "stdin").load()
