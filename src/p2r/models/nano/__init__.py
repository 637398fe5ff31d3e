"""The model in the box: a 3.6M-parameter Qwen3-VL trained on needles by `recipes/nano`. See MODEL_CARD.md beside this
file."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"
