"""The shipped models: a 3.8M-parameter Qwen3-VL for needles, before and after PRA-GRPO.

`recipes/nano` makes both; see MODEL_CARD.md beside this file.
"""

from pathlib import Path

FOLDER = Path(__file__).parent

BASE_CHECKPOINT = FOLDER / "base"
"""`nano-base`: the supervised cold start."""

CHECKPOINT = FOLDER / "checkpoint"
"""`nano`: trained from `nano-base` with PRA-GRPO, from right and wrong answers alone."""
