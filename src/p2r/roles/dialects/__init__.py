"""The dialects by name: how the checkpoints of other systems ask for a closer look."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2r.roles.dialects.base import Dialect
from p2r.roles.dialects.deepeyes import make_deepeyes
from p2r.roles.dialects.mini_o3 import make_mini_o3
from p2r.roles.dialects.pixel_reasoner import make_pixel_reasoner

DIALECTS: Mapping[str, Callable[..., Dialect]] = {
    "deepeyes": make_deepeyes,
    "mini-o3": make_mini_o3,
    "pixel-reasoner": make_pixel_reasoner,
}
"""Each takes `as_released`. Qwen3-VL's is that of `ToolReasoner` without a dialect."""
