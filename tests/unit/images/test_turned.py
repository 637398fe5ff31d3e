"""Images turned by EXIF: the size in the header is the size of the loaded image, for every format and orientation."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2r.errors import ImageError
from p2r.images.load import FORMATS, FileImage, decode_image, read_image_size
from p2r.images.png import SIGNATURE, drop_texts, has_late_exif

ORIENTATION = 0x0112
STORED = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 50, 3), dtype=np.uint8))
UPRIGHT = {
    1: STORED,
    2: STORED.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: STORED.transpose(Image.Transpose.ROTATE_180),
    4: STORED.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: STORED.transpose(Image.Transpose.TRANSPOSE),
    6: STORED.transpose(Image.Transpose.ROTATE_270),
    7: STORED.transpose(Image.Transpose.TRANSVERSE),
    8: STORED.transpose(Image.Transpose.ROTATE_90),
}


def make_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def write_turned(path: Path, image_format: str, orientation: int, **settings: object) -> Path:
    STORED.save(path, image_format, exif=make_exif(orientation), **settings)  # type: ignore[arg-type]
    return path


def make_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_png(path: Path, *, before: bytes = b"", after: bytes = b"", with_end: bool = True) -> Path:
    """A PNG file with chunks before and after its pixels."""
    buffer = io.BytesIO()
    STORED.save(buffer, "PNG")
    data = buffer.getvalue()
    start, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    path.write_bytes(data[:start] + before + data[start:end] + after + (data[end:] if with_end else b""))
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", [name for name in FORMATS if name != "MPO"])
def test_header_and_loaded_image_have_the_same_size(tmp_path: Path, image_format: str, orientation: int) -> None:
    path = write_turned(tmp_path / "scan", image_format, orientation)
    image = FileImage(path).load()
    assert FileImage(path).read_size() == image.size
    keeps_exif = image_format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
    assert image.size == (UPRIGHT[orientation].size if keeps_exif else STORED.size)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_turned_tiff_is_upright_pixel_for_pixel(tmp_path: Path, orientation: int, compression: str) -> None:
    path = tmp_path / "scan.tif"
    STORED.save(path, tiffinfo={ORIENTATION: orientation}, compression=compression)
    assert FileImage(path).load().tobytes() == UPRIGHT[orientation].tobytes()
    assert FileImage(path).read_size() == UPRIGHT[orientation].size


def test_a_turned_image_of_two_frames_has_the_size_of_its_first(tmp_path: Path) -> None:
    other = Image.new("RGB", (8, 8))
    for image_format, frames in (("TIFF", [other]), ("MPO", [STORED])):
        path = tmp_path / image_format
        STORED.save(path, image_format, save_all=True, append_images=frames, exif=make_exif(6))
        assert FileImage(path).read_size() == FileImage(path).load().size == (30, 50)


@pytest.mark.parametrize("kind", ["eXIf", "iTXt"])
def test_an_orientation_after_the_pixels_of_a_png_counts(tmp_path: Path, kind: str) -> None:
    chunks = {
        "eXIf": make_chunk(b"eXIf", make_exif(6).tobytes().removeprefix(b"Exif\0\0")),
        "iTXt": make_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6'/>".replace(b"'", b'"')),
    }
    path = write_png(tmp_path / "late.png", after=chunks[kind])
    assert FileImage(path).read_size() == FileImage(path).load().size == (30, 50)


def test_the_beginning_of_a_png_does_not_tell_its_size(tmp_path: Path) -> None:
    data = write_png(tmp_path / "late.png", after=make_chunk(b"eXIf", make_exif(6).tobytes()[6:])).read_bytes()
    with pytest.raises(ImageError, match="cut off"):
        read_image_size(io.BytesIO(data[:2000]), "late.png", cut_off=True)
    assert read_image_size(io.BytesIO(data[:2000]), "late.png") == (50, 30)


def test_an_orientation_before_the_pixels_of_a_png_is_not_late(tmp_path: Path) -> None:
    path = write_png(tmp_path / "early.png", before=make_chunk(b"eXIf", make_exif(6).tobytes()[6:]))
    with path.open("rb") as file:
        assert has_late_exif(file) is False
    assert FileImage(path).read_size() == FileImage(path).load().size == (30, 50)


def test_a_png_without_its_end_is_read(tmp_path: Path) -> None:
    path = write_png(tmp_path / "open.png", with_end=False)
    with path.open("rb") as file:
        assert has_late_exif(file) is None
    assert FileImage(path).read_size() == FileImage(path).load().size == (50, 30)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", ["zTXt", "iTXt"])
def test_large_text_in_a_png_does_not_keep_its_pixels_from_being_read(tmp_path: Path, place: str, kind: str) -> None:
    packed = zlib.compress(b"prompt " * 20_000_000)
    content = b"Comment\0\0" + packed if kind == "zTXt" else b"Comment\0\1\0\0\0" + packed
    text = make_chunk(kind.encode(), content)
    path = write_png(
        tmp_path / "text.png", before=text if place == "before" else b"", after=text if place == "after" else b""
    )
    assert FileImage(path).load().tobytes() == STORED.tobytes()
    assert FileImage(path).read_size() == STORED.size


def test_a_broken_png_with_text_is_still_broken(tmp_path: Path) -> None:
    path = write_png(tmp_path / "text.png", before=make_chunk(b"tEXt", b"Comment\0hi"))
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ImageError, match="broken or cut off"):
        FileImage(path).load()


def test_only_png_files_with_texts_are_copied(tmp_path: Path) -> None:
    plain, texts = write_png(tmp_path / "a.png"), write_png(tmp_path / "b.png", before=make_chunk(b"tEXt", b"a\0b"))
    assert drop_texts(io.BytesIO(plain.read_bytes())) is None
    assert drop_texts(io.BytesIO(b"GIF89a" * 9)) is None and SIGNATURE not in b"GIF89a"
    clean = drop_texts(io.BytesIO(texts.read_bytes()))
    assert clean is not None and clean.getvalue() == plain.read_bytes()


@pytest.mark.parametrize("missing", [1, 2, 200])
def test_a_jpeg_without_its_last_bytes_is_refused(tmp_path: Path, missing: int) -> None:
    data = write_turned(tmp_path / "a.jpg", "JPEG", 1).read_bytes()
    with pytest.raises(ImageError, match="broken or cut off"):
        decode_image(data[:-missing], "a.jpg")
