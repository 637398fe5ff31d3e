from __future__ import annotations

import base64
import io
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from p2r.errors import ConfigError
from p2r.models.server.transport import Transport, choose_transport, image_urls


def noise(width: int = 70, height: int = 50) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("http://localhost:8000/v1", "bmp"),
        ("http://127.0.0.1:8000/v1", "bmp"),
        ("http://[::1]:8000/v1", "bmp"),
        ("http://192.168.1.5/v1", "bmp"),
        ("http://10.0.0.7:9000/v1", "bmp"),
        ("http://gpu-box:8000/v1", "bmp"),
        ("http://gpu.local/v1", "bmp"),
        ("https://api.openai.com/v1", "webp"),
        ("http://8.8.8.8/v1", "webp"),
        ("http://[2001:4860:4860::8888]/v1", "webp"),
    ],
)
def test_a_near_server_gets_bmp_and_a_far_one_webp(url: str, transport: Transport) -> None:
    assert choose_transport(url, "auto") == transport


def test_a_wish_is_kept() -> None:
    assert choose_transport("http://localhost/v1", "jpeg") == "jpeg"


def test_an_unknown_wish_is_refused() -> None:
    with pytest.raises(ConfigError, match="no image transport 'gif'"):
        choose_transport("http://localhost/v1", "gif")  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["bmp", "webp", "png"])
@pytest.mark.parametrize("size", [(70, 50), (1, 1), (33, 7)])
def test_lossless_formats_are_lossless(transport: Transport, size: tuple[int, int]) -> None:
    image = noise(*size)
    with image_urls([image], transport) as (url,):
        head, _, data = url.partition(",")
        back = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    assert head == f"data:image/{transport};base64"
    assert np.array_equal(np.asarray(back), np.asarray(image))


def test_files_live_as_long_as_the_block_even_when_it_fails() -> None:
    paths: list[Path] = []
    with pytest.raises(ValueError, match="stop"), image_urls([noise(), noise()], "file") as urls:
        paths += [Path(unquote(urlsplit(url).path)) for url in urls]
        assert all(url.startswith("file:///") for url in urls)
        assert all(path.is_file() for path in paths)
        raise ValueError("stop")
    assert len(paths) == 2
    assert not any(path.exists() for path in paths)
