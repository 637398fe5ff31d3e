"""The dialects by name: how the checkpoints of other systems ask for a closer look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from p2r.roles.dialects.base import Dialect
from p2r.roles.dialects.deepeyes import make_deepeyes
from p2r.roles.dialects.mini_o3 import make_mini_o3
from p2r.roles.dialects.pixel_reasoner import make_pixel_reasoner
from p2r.roles.dialects.qwen3_vl import QWEN3_VL
from p2r.roles.dialects.thyme import make_thyme
from p2r.roles.dialects.treevgr import make_treevgr
from p2r.roles.dialects.zwz import make_zwz

DIALECTS: Mapping[str, Callable[[], Dialect]] = {
    "": lambda: QWEN3_VL,
    "deepeyes": make_deepeyes,
    "deepeyes:released": partial(make_deepeyes, as_released=True),
    "mini-o3": make_mini_o3,
    "mini-o3:released": partial(make_mini_o3, as_released=True),
    "pixel-reasoner": make_pixel_reasoner,
    "pixel-reasoner:released": partial(make_pixel_reasoner, as_released=True),
    "thyme": make_thyme,
    "thyme:released": partial(make_thyme, as_released=True),
    "treevgr": make_treevgr,
    "treevgr:released": partial(make_treevgr, as_released=True),
    "zwz": make_zwz,
}
"""The dialect of each mode, by what follows "tools:" in its name."""
