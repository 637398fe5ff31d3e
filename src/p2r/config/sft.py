"""The table of a supervised phase, which learns replies from demonstrations instead of rewards."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from p2r.types import Frozen


class SftSettings(Frozen):
    """Supervised fine-tuning (a phase with `method = "sft"`).

    prompt: "row" asks with the row's own words; "role" puts the row's question into the prompt of the phase's role.
    leave_out: rows whose reply holds one of these phrases are left out; capital letters do not count.
    min_image_side: rows with a smaller image, in pixels, are left out.
    max_tokens: rows with more tokens, prompt and replies together, are left out; nothing is cut.
    rows_per_step: rows of one optimizer step, of all processes.
    pack_tokens: tokens of rows that are packed into one forward pass; results do not depend on it.
    """

    prompt: Literal["row", "role"] = "row"
    leave_out: tuple[str, ...] = ()
    min_image_side: PositiveInt = 28
    max_tokens: PositiveInt = 4096
    rows_per_step: PositiveInt = 64
    pack_tokens: PositiveInt = 8192
