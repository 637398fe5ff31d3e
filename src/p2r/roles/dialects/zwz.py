"""ZwZ (Zooming without Zooming): one reply on the whole image, at up to 16.8 million pixels, and no tool.

Source: inclusionAI/Zooming-without-Zooming at fdc0ba1 (Apache-2.0), `mm-eval/infer_without_tool.py`. Replies are drawn
once, with a seed. Departure: the authors also keep the 20 likeliest tokens and punish repetition (presence 1.5).
"""

from __future__ import annotations

from p2r.dialogue import Decoding
from p2r.roles.dialects.base import Dialect, ask_question
from p2r.roles.dialects.texts import load_texts

PIXELS = (65_536, 16_777_216)
SEED = 42


def make_zwz() -> Dialect:
    """Make the dialect."""
    texts = load_texts("zwz")

    return Dialect(
        "zwz",
        ask_question,
        decoding=Decoding(max_new_tokens=8192, temperature=0.7, top_p=0.8, seed=SEED),
        budget_pixels=PIXELS,
        texts=texts,
    )
