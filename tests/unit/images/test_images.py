"""Images: every kind of file becomes upright RGB or one clear error, and the size follows the budget."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from p2r.dialogue import Budget
from p2r.errors import ImageError
from p2r.images.budget import FullImage, cut, fit, round_to_budget, smart_resize
from p2r.images.load import MAX_IMAGE_PIXELS, FileImage, MemoryImage, decode_image, read_image_size

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
EXIF_ORIENTATION = 0x0112


def load(path: Path) -> Image.Image:
    image = FileImage(path).load()
    assert image.mode == "RGB"
    return image


def save(image: Image.Image, path: Path, *, exif: Image.Exif | None = None) -> Path:
    image.save(path, exif=exif or Image.Exif())
    return path


def write_png_header(path: Path, width: int, height: int, data: bytes = b"") -> Path:
    """A PNG that claims to be huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("extension", ["png", "bmp", "tiff", "ppm"])
def test_lossless_file_gives_the_very_pixels(extension: str, tmp_path: Path) -> None:
    assert load(save(NOISE, tmp_path / f"noise.{extension}")).tobytes() == NOISE.tobytes()


@pytest.mark.parametrize("extension", ["jpg", "webp", "gif"])
def test_lossy_file_is_read(extension: str, tmp_path: Path) -> None:
    assert load(save(NOISE, tmp_path / f"noise.{extension}")).size == NOISE.size


def test_file_name_may_lie_about_the_format(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    NOISE.save(path, format="PNG")
    assert load(path).tobytes() == NOISE.tobytes()


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (2, NOISE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        (3, NOISE.transpose(Image.Transpose.ROTATE_180)),
        (6, NOISE.transpose(Image.Transpose.ROTATE_270)),
        (8, NOISE.transpose(Image.Transpose.ROTATE_90)),
    ],
)
def test_exif_rotation_is_applied(orientation: int, upright: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    loaded = load(save(NOISE, tmp_path / "turned.png", exif=exif))
    assert loaded.tobytes() == upright.tobytes()
    assert loaded.getexif().get(EXIF_ORIENTATION, 1) == 1


def test_gray_palette_with_exif_is_turned_and_colored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    assert load(save(NOISE.convert("P"), tmp_path / "turned.png", exif=exif)).size == (40, 60)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_other_color_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    converted = NOISE.convert(mode)
    assert load(save(converted, tmp_path / "noise.tiff")).tobytes() == converted.convert("RGB").tobytes()


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK")
    assert np.abs(np.asarray(load(save(red, tmp_path / "red.jpg"))).astype(int) - [250, 10, 10]).max() < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_over_white(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    loaded = load(save(image.convert(mode), tmp_path / "alpha.png"))
    assert [loaded.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (0, 0, 0)]


def test_half_transparent_black_is_gray(tmp_path: Path) -> None:
    loaded = load(save(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), tmp_path / "half.png"))
    assert loaded.getpixel((0, 0)) == (127, 127, 127)


def test_transparent_color_of_a_palette_lies_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    path = tmp_path / "palette.png"
    image.save(path, transparency=0)
    loaded = load(path)
    assert [loaded.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (0, 0, 200)]


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_sixteen_bits_are_scaled_and_not_clipped(extension: str, tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    loaded = load(save(Image.fromarray(values), tmp_path / f"deep.{extension}"))
    assert [loaded.getpixel((x, 0)) for x in range(6)] == [(v, v, v) for v in (0, 0, 1, 1, 128, 255)]


def test_float_image_from_0_to_1_is_scaled(tmp_path: Path) -> None:
    loaded = load(save(Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)), tmp_path / "float.tiff"))
    assert [loaded.getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in (0, 128, 255)]


def test_values_beyond_any_known_white_are_scaled_by_the_largest() -> None:
    deep = Image.fromarray(np.array([[-100, 0, 200_000]], dtype=np.int32))
    assert [MemoryImage(deep).load().getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in (0, 0, 255)]


@pytest.mark.parametrize("extension", ["gif", "webp", "png", "tiff"])
def test_animation_shows_its_first_frame(extension: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    path = tmp_path / f"moving.{extension}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert load(path).getpixel((5, 5)) == (255, 0, 0)


def test_one_pixel_is_a_image(tmp_path: Path) -> None:
    full_image = FullImage(load(save(Image.new("RGB", (1, 1), "red"), tmp_path / "dot.png")))
    assert full_image.fitted(Budget()).size == (128, 128)


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.png", "there is no file"), ("folder", "is not a file"), ("empty.png", r"is empty \(0 bytes\)")],
)
def test_what_is_no_image_file_is_said(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=message) as caught:
        FileImage(tmp_path / name).load()
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.hint


def test_text_file_is_not_an_image(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("to do: buy a camera\n" * 9)
    with pytest.raises(ImageError, match=r"notes\.png is not an image") as caught:
        FileImage(path).load()
    assert "JPEG" in caught.value.hint


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "bmp", "tiff", "gif", "ppm"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_file_is_broken_and_never_half_a_image(extension: str, kept: float, tmp_path: Path) -> None:
    path = save(NOISE, tmp_path / f"noise.{extension}")
    content = path.read_bytes()
    path.write_bytes(content[: max(int(len(content) * kept), 12)])
    with pytest.raises(ImageError, match=r"broken|not an image") as caught:
        FileImage(path).load()
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tiff", "gif"])
def test_no_damage_raises_anything_but_an_image_error(extension: str, tmp_path: Path) -> None:
    content = save(NOISE, tmp_path / f"noise.{extension}").read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / "damaged"
    for _ in range(60):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), 8):
            damaged[position] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load(path)
            except ImageError:
                continue


def test_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    path = write_png_header(tmp_path / "bomb.png", 100_000, 100_000, data=b"never looked at")
    with pytest.raises(ImageError, match=r"100000 x 100000 pixels, 10,000,000,000; the limit is 400,000,000") as caught:
        FileImage(path).load()
    assert "max_image_pixels" in caught.value.hint


def test_image_without_pixels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="0 x 5 pixels"):
        MemoryImage(Image.new("RGB", (0, 5))).load()
    with pytest.raises(ImageError, match=r"empty\.png"):
        FileImage(write_png_header(tmp_path / "empty.png", 0, 5)).load()


@pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow's WebP decoder has no limit of its own before 13"
)
def test_webp_beyond_what_pillow_reads_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(NOISE, tmp_path / "noise.webp")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match="larger than Pillow reads WEBP files") as caught:
        FileImage(path).load()
    assert caught.value.hint


def test_limit_can_be_raised_and_lowered(tmp_path: Path) -> None:
    path = save(NOISE, tmp_path / "noise.png")
    assert FileImage(path, max_image_pixels=2400).load().size == (60, 40)
    with pytest.raises(ImageError, match="the limit is 2,399"):
        FileImage(path, max_image_pixels=2399).load()
    assert MAX_IMAGE_PIXELS >= 20_000 * 20_000


def test_limit_of_pillow_is_neither_used_nor_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(NOISE, tmp_path / "noise.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = FileImage(path).load()
        assert cut(image, (1, 1, 59, 39)).size == (58, 38)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_files_are_read_in_many_threads_at_once(tmp_path: Path) -> None:
    path = save(NOISE, tmp_path / "noise.png")
    sizes: list[tuple[int, int]] = []
    threads = [threading.Thread(target=lambda: sizes.append(load(path).size)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [(60, 40)] * 16


def test_uri_is_the_path_or_the_name(tmp_path: Path) -> None:
    assert FileImage("a/b.png").uri == "a/b.png"
    assert MemoryImage(NOISE, "needles:7/12").uri == "needles:7/12"


def test_image_in_memory_is_not_copied_when_it_is_rgb() -> None:
    assert MemoryImage(NOISE).load() is NOISE
    assert MemoryImage(NOISE.convert("L")).load().mode == "RGB"


def test_fit_leaves_a_image_of_the_right_size_alone() -> None:
    image = Image.new("RGB", (256, 128))
    assert fit(image, Budget()) is image


@pytest.mark.parametrize("size", [(4000, 3000), (33, 777), (1, 1), (7680, 4320)])
@pytest.mark.parametrize("budget", [Budget(), Budget(factor=28, min_pixels=3136, max_pixels=1003520)])
def test_sizing_twice_changes_nothing(size: tuple[int, int], budget: Budget) -> None:
    height, width = smart_resize(size[1], size[0], budget)
    assert smart_resize(height, width, budget) == (height, width)
    assert height % budget.factor == width % budget.factor == 0


@pytest.mark.parametrize("most", [65536, 70000, 81920, 98304, 131072])
def test_a_most_near_the_least_is_never_exceeded_and_no_processor_resizes_again(most: int) -> None:
    """The published rule left such budgets, for 1,944 of these 2,025 sizes at 65,536 pixels."""
    budget, of_server = (Budget(min_pixels=65536, max_pixels=pixels) for pixels in (most, 1 << 24))
    for height in range(40, 393, 8):
        for width in range(40, 393, 8):
            size = smart_resize(height, width, budget)
            assert 65536 <= size[0] * size[1] <= most
            assert size == round_to_budget(*size, budget, least=0) == round_to_budget(*size, of_server, least=0)


@pytest.mark.parametrize(
    ("image_wh", "sized_wh"),
    [((67, 77), (256, 256)), ((512, 256), (256, 256)), ((900, 256), (512, 128)), ((10, 1500), (32, 2048))],
)
def test_a_budget_of_one_area_gives_the_shape_most_like_the_images(
    image_wh: tuple[int, int], sized_wh: tuple[int, int]
) -> None:
    assert fit(Image.new("RGB", image_wh), Budget(min_pixels=65536, max_pixels=65536)).size == sized_wh


def test_a_thin_image_does_not_exceed_a_small_budget() -> None:
    assert smart_resize(30, 6000, Budget(max_pixels=64 * 1024)) == (32, 64 * 32)
    assert smart_resize(10, 2000, Budget(min_pixels=500, max_pixels=1024)) == (32, 32)
    assert smart_resize(10, 10, Budget(min_pixels=16383, max_pixels=16383)) == (96, 160)


@pytest.mark.parametrize("size", [(2001, 10), (1, 201)])
def test_thin_image_is_refused_with_a_hint(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]} x {size[1]} pixels, one side more than 200 times") as caught:
        fit(Image.new("RGB", size), Budget())
    assert caught.value.hint


def test_image_is_sized_once_for_each_budget() -> None:
    full_image = FullImage(NOISE)
    assert full_image.size == (60, 40)
    assert full_image.fitted(Budget()) is full_image.fitted(Budget())
    assert full_image.fitted(Budget(factor=28)).size != full_image.fitted(Budget()).size


@pytest.mark.parametrize("rect", [(0, 0, 60, 40), (3, 5, 4, 6), (10, 0, 60, 40)])
def test_cut_gives_the_pixels_of_a_crop(rect: tuple[int, int, int, int]) -> None:
    assert cut(NOISE, rect).tobytes() == NOISE.crop(rect).tobytes()


def test_the_size_of_a_turned_image_is_read_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    with path.open("rb") as file:
        assert read_image_size(file, str(path)) == (30, 40) == decode_image(path.read_bytes(), "turned").size
    with pytest.raises(ImageError, match="nothing is empty"):
        decode_image(b"", "nothing")


@pytest.mark.parametrize("image_wh", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_is_an_error_of_one_sentence(image_wh: tuple[int, int]) -> None:
    width, height = image_wh
    with pytest.raises(ImageError, match=f"{width} x {height} pixels: it has no pixel"):
        smart_resize(height, width, Budget(factor=32, min_pixels=1024, max_pixels=1 << 20))
    with pytest.raises(ImageError, match=f"{width} x {height} pixels"):
        fit(Image.new("RGB", image_wh), Budget(factor=32, min_pixels=1024, max_pixels=1 << 20))
