"""A folder of images for the tools."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image of 640 x 320 pixels, beside which there is another one."""
    (tmp_path / "images" / "below").mkdir(parents=True)
    image = Image.linear_gradient("L").resize((640, 320)).convert("RGB")
    image.save(tmp_path / "images" / "below" / "a boat.png")
    image.save(tmp_path / "outside.png")
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "images" / "notes.txt").write_text("a secret that nobody may see")
    return tmp_path / "images"
