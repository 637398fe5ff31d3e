"""Images of programs: pixels as Pillow makes them, and the part of the given image that each shows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from p2r.programs.canvas import Canvas
from p2r.programs.run_programs import run_programs

PATH = "/mnt/data/image.png"
PIXELS = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)
GRAY = IMAGE.convert("L")
WHOLE = (0, 0, 1, 1)


def make(code: str) -> Canvas:
    """The image that a program makes, as `out`, of `im` (Pillow), `a` (cv2), or `g` (gray)."""
    before = (
        "from PIL import ImageEnhance, ImageFilter, ImageOps\nim = Image.open(image_path)\na = cv2.imread(image_path)\n"
    )
    before += "g = cv2.cvtColor(a, cv2.COLOR_BGR2GRAY)\n"
    last = code.splitlines()[-1]
    after = "out.save('/tmp/x.png')" if last.startswith("out = im") else "cv2.imwrite('/tmp/x.png', out)"
    found = run_programs([f"{before}{code}\n{after}\nprint('/tmp/x.png')"], IMAGE, PATH)
    assert not found.error, found.error
    (made,) = found.shown
    assert isinstance(made, Canvas)
    return made


def blacken(box: tuple[int, int, int, int]) -> Image.Image:
    """The image with a part in black."""
    image = IMAGE.copy()
    image.paste((0, 0, 0), box)
    return image


SAME = {
    "out = im.crop((10, 20, 60, 70))": IMAGE.crop((10, 20, 60, 70)),
    "out = a[20:70, 10:60]": IMAGE.crop((10, 20, 60, 70)),
    "out = im.resize((50, 40), Image.LANCZOS)": IMAGE.resize((50, 40), Image.Resampling.LANCZOS),
    "out = im.resize((50, 40))": IMAGE.resize((50, 40)),
    "out = cv2.resize(a, (50, 40), interpolation=cv2.INTER_CUBIC)": IMAGE.resize((50, 40), Image.Resampling.BICUBIC),
    "out = cv2.resize(a, None, fx=2, fy=2)": IMAGE.resize((200, 160), Image.Resampling.BILINEAR),
    "out = im.rotate(30, expand=True)": IMAGE.rotate(30, expand=True),
    "out = cv2.rotate(a, cv2.ROTATE_90_CLOCKWISE)": IMAGE.transpose(Image.Transpose.ROTATE_270),
    "out = cv2.rotate(a, cv2.ROTATE_90_COUNTERCLOCKWISE)": IMAGE.transpose(Image.Transpose.ROTATE_90),
    "out = im.transpose(Image.ROTATE_180)": IMAGE.transpose(Image.Transpose.ROTATE_180),
    "out = cv2.flip(a, 1)": ImageOps.mirror(IMAGE),
    "out = cv2.flip(a, 0)": ImageOps.flip(IMAGE),
    "out = cv2.flip(a, -1)": IMAGE.transpose(Image.Transpose.ROTATE_180),
    "out = im.convert('L')": GRAY.convert("RGB"),
    "out = g": GRAY.convert("RGB"),
    "out = cv2.cvtColor(a, cv2.COLOR_BGR2RGB)": Image.fromarray(np.ascontiguousarray(PIXELS[..., ::-1])),
    "out = cv2.cvtColor(g, cv2.COLOR_GRAY2BGR)": GRAY.convert("RGB"),
    "out = a[:, :, ::-1]": Image.fromarray(np.ascontiguousarray(PIXELS[..., ::-1])),
    "out = a[:, :, 0]": Image.fromarray(PIXELS[..., 2]).convert("RGB"),
    "out = cv2.merge(cv2.split(a))": IMAGE,
    "out = cv2.equalizeHist(g)": ImageOps.equalize(GRAY).convert("RGB"),
    "out = cv2.bitwise_not(a)": ImageOps.invert(IMAGE),
    "t, out = cv2.threshold(g, 99, 255, cv2.THRESH_BINARY)\nout = out": GRAY.point(lambda v: 255 * (v > 99)).convert(
        "RGB"
    ),
    "t, out = cv2.threshold(g, 99, 255, cv2.THRESH_BINARY_INV)\nout = out": GRAY.point(
        lambda v: 255 * (v <= 99)
    ).convert("RGB"),
    "out = cv2.convertScaleAbs(a, alpha=1.5, beta=-20)": Image.fromarray(
        np.clip(np.abs(PIXELS * 1.5 - 20).round(), 0, 255).astype(np.uint8)
    ),
    "out = cv2.addWeighted(a, 0.5, a, 0.5, 0)": IMAGE,
    "out = cv2.filter2D(a, -1, np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]))": IMAGE,
    "out = np.clip(a * 1.5, 0, 255).astype(np.uint8)": Image.fromarray(np.clip(PIXELS * 1.5, 0, 255).astype(np.uint8)),
    "out = np.hstack([a, a])": Image.fromarray(np.hstack([PIXELS, PIXELS])),
    "out = cv2.medianBlur(a, 3)": IMAGE.filter(ImageFilter.MedianFilter(3)),
    "x = im\nout = im.filter(ImageFilter.SHARPEN)": IMAGE.filter(ImageFilter.SHARPEN),
    "x = im\nout = im.filter(ImageFilter.GaussianBlur(radius=2))": IMAGE.filter(ImageFilter.GaussianBlur(2)),
    "im = ImageEnhance.Contrast(im).enhance(2.0)\nout = im": ImageEnhance.Contrast(IMAGE).enhance(2.0),
    "im = ImageOps.autocontrast(im)\nout = im": ImageOps.autocontrast(IMAGE),
    "im = Image.fromarray(cv2.cvtColor(a, cv2.COLOR_BGR2RGB))\nout = im": IMAGE,
    "out = np.array(im)[:, :, ::-1]": IMAGE,
    "a[:, :, 2] = cv2.bitwise_not(a[:, :, 2])\na[:, :, 2] += 1\nout = a": Image.fromarray(
        PIXELS * np.array([255, 1, 1], np.uint8)  # in bytes, -x is 255 * x
    ),
    "b = a\nb[10:20, :] = 0\nout = a": blacken((0, 10, 100, 20)),
    "b = a[10:20, :]\nb[:, :50] = 0\nb += 0\nout = a": blacken((0, 10, 50, 20)),
    "b = a[10:20, :]\nb *= 0\nout = a": blacken((0, 10, 100, 20)),
    "def f(c):\n    c[:20, :] = 0\nf(np.flipud(a))\nout = a": blacken((0, 60, 100, 80)),
    "b = a[10:20, :]\nb = b * 0\nout = a": IMAGE,
    "for b in [a.copy(), np.array(a), cv2.flip(a, 0), np.asarray(im)]:\n    b[10:20, :] = 0\nout = a": IMAGE,
    "cv2.imwrite('/tmp/y.png', a)\na *= 0\nout = cv2.imread('/tmp/y.png')": IMAGE,
    "out = np.array(a, dtype=np.float32)\nout += 0.25\nout = out.astype(np.uint8)": IMAGE,
    "m = cv2.getRotationMatrix2D((50, 40), 0, 1)\nm[0, 2] += np.abs(m[0, 1])\nout = cv2.warpAffine(a, m, (100, 80))": (
        IMAGE
    ),
    "out = cv2.warpAffine(a, cv2.getRotationMatrix2D((50, 40), 0, 1), (100, 80))": IMAGE,
}


@pytest.mark.parametrize(("code", "expected"), [pytest.param(code, image, id=code) for code, image in SAME.items()])
def test_pixels_are_those_of_pillow(code: str, expected: Image.Image) -> None:
    made = make(code)
    assert (made.size, made.image.mode) == (expected.size, "RGB")
    assert made.image.tobytes() == expected.tobytes()


def test_a_turn_by_a_matrix_goes_against_the_clock_about_its_center() -> None:
    image = Image.new("RGB", (100, 100))
    image.paste("white", (80, 45, 90, 55))
    code = "a = cv2.imread(image_path)\nm = cv2.getRotationMatrix2D((50, 50), 90, 1.0)\n"
    code += "cv2.imwrite('/tmp/x.png', cv2.warpAffine(a, m, (100, 100)))\nprint('/tmp/x.png')"
    (made,) = run_programs([code], image, PATH).shown
    assert isinstance(made, Canvas)
    left, top, right, bottom = made.image.point(lambda value: 255 * (value > 99)).getbbox() or ()
    assert (abs(left - 45) <= 1, abs(top - 10) <= 1, abs(right - 55) <= 1, abs(bottom - 20) <= 1) == (True,) * 4


def test_equalizing_each_tile_raises_contrast_where_there_is_little() -> None:
    half = np.tile(np.linspace(100, 120, 64, dtype=np.uint8), (64, 1))
    for limit, least, most in ((2.0, 22, 200), (200.0, 200, 256)):
        code = "g = cv2.imread(image_path, cv2.IMREAD_GRAYSCALE)\n"
        code += f"c = cv2.createCLAHE(clipLimit={limit}, tileGridSize=(2, 2))"
        code += "\ncv2.imwrite('/tmp/x.png', c.apply(g))\nprint('/tmp/x.png')"
        (made,) = run_programs([code], Image.fromarray(half).convert("RGB"), PATH).shown
        assert isinstance(made, Canvas)
        low, high = made.image.convert("L").getextrema()
        assert isinstance(low, (int, float)) and isinstance(high, (int, float)) and least < high - low < most


def test_a_threshold_is_found_between_two_values() -> None:
    image = Image.new("RGB", (20, 20), (50, 50, 50))
    image.paste((200, 200, 200), (0, 0, 10, 20))
    code = "g = cv2.cvtColor(cv2.imread(image_path), cv2.COLOR_BGR2GRAY)\n"
    code += "t, b = cv2.threshold(g, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)\nprint(50 <= t < 200, np.mean(b))"
    assert run_programs([code], image, PATH).shown == ["True 127.5"]


@pytest.mark.parametrize(
    ("code", "region"),
    [
        ("out = im.crop((10, 20, 60, 60))", (0.1, 0.25, 0.6, 0.75)),
        ("out = im.crop((10, 20, 60, 60)).crop((25, 20, 50, 40))", (0.35, 0.5, 0.6, 0.75)),
        ("out = im.crop((10, 20, 60, 60)).resize((500, 400)).crop((0, 0, 250, 200))", (0.1, 0.25, 0.35, 0.5)),
        ("out = im.crop((50, 40, 200, 200))", (0.5, 0.5, 1, 1)),
        ("out = im.crop((200, 200, 300, 300))", None),
        ("out = im.crop((10, 20, 60, 60)).rotate(90, expand=True).crop((0, 0, 9, 9))", (0.1, 0.25, 0.6, 0.75)),
        ("out = a[40:80, 50:100]", (0.5, 0.5, 1, 1)),
        ("out = a[40:, :50]", (0, 0.5, 0.5, 1)),
        ("out = a[-40:]", (0, 0.5, 1, 1)),
        ("out = a[::-1, :50]", WHOLE),
        ("out = g", WHOLE),
        ("out = np.ones((20, 20, 3)) * 255", None),
    ],
)
def test_an_image_knows_the_part_that_it_shows(code: str, region: tuple[float, ...] | None) -> None:
    found = make(code).region
    assert found is None if region is None else found == pytest.approx(region)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("print(a[5000:5100, 10:20].shape)", "an image of 10 x 0 pixels has none"),
        ("print(a[1.5:9, :].shape)", "the ends of a part are not whole numbers"),
        ("a[0:2, 0:2] = a", "a part of an array is given one number, or an array of its size"),
        ("a += 0.5", "numbers of the type float64 do not fit an array of uint8"),
        ("print(a[0, 0])", "single pixels are not offered here"),
        ("print(a[0:2, 0:2, 0:2, 0:2])", "a part of an image is [top:bottom, left:right]"),
        ("print(a + a[:9, :9])", "arrays of the shapes [(9, 9, 3), (80, 100, 3)] cannot be combined"),
        ("print(im.shape)", "a Pillow image is not an array; np.array makes one of it"),
        ("print(a.crop((0, 0, 9, 9)))", "an array is not a Pillow image; Image.fromarray makes one of it"),
        ("im.thumbnail((9, 9))", "thumbnail is not offered here; use resize"),
        ("im.convert('CMYK')", "the mode 'CMYK' is not offered here"),
    ],
)
def test_what_is_wrong_with_an_image_is_said(code: str, error: str) -> None:
    before = "im = Image.open(image_path)\na = cv2.imread(image_path)\n"
    assert run_programs([before + code], IMAGE, PATH).error == error
