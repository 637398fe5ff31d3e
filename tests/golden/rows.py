"""Rows of fixtures: inputs, and what public code gave for them. Where each comes from stands in its `source`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def read_rows(name: str) -> list[dict[str, Any]]:
    lines = (Path(__file__).parent / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def make_background(width: int, height: int) -> Image.Image:
    """The synthetic image of the fixtures: R=(7x+3y)%256, G=(5x+11y)%256, B=(x+2y)%256."""
    y, x = np.mgrid[:height, :width]
    bands = [(7 * x + 3 * y) % 256, (5 * x + 11 * y) % 256, (x + 2 * y) % 256]
    return Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8))


def hash_pixels(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()
