from __future__ import annotations

import io
import warnings
from pathlib import Path

import pytest
from PIL import Image

from p2r.errors import ImageError, P2RWarning
from p2r.images import formats, load
from p2r.images.formats import FORMATS, list_suffixes
from p2r.images.load import FileImage


def save_frames(path: Path, num_frames: int) -> Path:
    frames = [Image.new("RGB", (60, 40), color) for color in ("red", "blue", "green")[:num_frames]]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def test_the_suffixes_of_every_format_are_known() -> None:
    wanted = ".jpg .jpeg .jpe .jfif .png .webp .tif .tiff .bmp .gif .jp2 .avif .ppm .pgm .mpo .heic .heif"
    assert set(wanted.split()) <= list_suffixes()
    assert not {".pdf", ".eps", ".svg", ".mp4", ".txt", ".ico", ""} & list_suffixes()


def test_heic_is_read(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (64, 48), "red")
    image.paste("blue", (0, 0, 32, 48))
    path = tmp_path / "IMG_1.HEIC"
    pillow_heif.from_pillow(image).save(path)
    loaded = FileImage(path).load()
    assert loaded.size == (64, 48)
    assert loaded.getpixel((8, 8))[2] > 200 and loaded.getpixel((56, 8))[0] > 200  # type: ignore[index]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match="broken HEIC image"):
        FileImage(path).load()


def test_without_its_library_heic_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setattr(load, "reads_heic", lambda: False)
    monkeypatch.setattr(load, "FORMATS", tuple(name for name in FORMATS if name != "HEIF"))
    with pytest.raises(ImageError, match=r"IMG_1\.HEIC is a HEIC image") as caught:
        FileImage(path).load()
    assert "pip install pillow-heif" in caught.value.hint


def test_the_plugin_is_only_looked_for_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    assert not formats.reads_heic()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
@pytest.mark.parametrize(("num_frames", "said"), [(2, "1 more frame left out"), (3, "2 more frames left out")])
def test_an_image_of_several_frames_says_that_the_first_is_used(
    tmp_path: Path, suffix: str, num_frames: int, said: str
) -> None:
    path = save_frames(tmp_path / f"moving.{suffix}", num_frames)
    with pytest.warns(P2RWarning, match=rf"moving\.{suffix}: the first frame is used; {said}"):
        image = FileImage(path).load()
    red, _, blue = image.getpixel((5, 5))  # type: ignore[misc]
    assert red > 200 and blue < 50


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff", "jpg", "bmp"])
def test_an_image_of_one_frame_says_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"still.{suffix}"
    Image.new("RGB", (60, 40)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FileImage(path).load()


def test_the_previews_inside_a_photo_are_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "phone.mpo"
    Image.new("RGB", (60, 40)).save(path, save_all=True, append_images=[Image.new("RGB", (6, 4))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FileImage(path).load().size == (60, 40)


def test_broken_later_frames_do_not_cost_the_first(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    frames = [Image.effect_noise((60, 40), 50) for _ in range(3)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    path = tmp_path / "cut.gif"
    path.write_bytes(buffer.getvalue()[:-1500])
    with warnings.catch_warnings(record=True):
        assert FileImage(path).load().size == (60, 40)
