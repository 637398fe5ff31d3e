"""Choose the next token, the likeliest or a drawn one, with repetition penalty, temperature and top-p.

Shapes: B rows, P longest prompt (shorter ones are padded on the left), V vocabulary, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from p2r.dialogue import Decoding


class Chosen(NamedTuple):
    """The next token of each row.

    logprobs_B: its log-prob in the distribution that it was drawn from, after penalty, temperature and top-p; None when
        decoding is greedy.
    """

    ids_B: torch.Tensor
    logprobs_B: torch.Tensor | None


class Sampler:
    """Chooses each row's next token.

    A row's draws depend only on its seed: one uniform number per step chooses the token at which the cumulated
    probability passes it. The numbers are drawn ahead on the CPU, so that they are the same on every device and cost
    nothing per step.

    Args:
        ids_BP, mask_BP: the prompts, for the repetition penalty.
        seeds: one per row; not used when decoding is greedy.
        num_steps: the most calls of `choose`.
    """

    def __init__(
        self,
        decoding: Decoding,
        ids_BP: torch.Tensor,
        mask_BP: torch.Tensor,
        vocabulary: int,
        seeds: Sequence[int],
        num_steps: int,
    ) -> None:
        self._decoding = decoding
        self._seen_BV: torch.Tensor | None = None
        if decoding.repetition_penalty != 1.0:
            real_BP = mask_BP.bool()
            self._seen_BV = torch.zeros(len(ids_BP), vocabulary + 1, dtype=torch.bool, device=ids_BP.device)
            self._seen_BV.scatter_(1, torch.where(real_BP, ids_BP, vocabulary), True)
            self._seen_BV = self._seen_BV[:, :vocabulary]
        self._step = 0
        self._uniforms_BT: torch.Tensor | None = None
        if decoding.temperature > 0:
            drawn = [torch.rand(num_steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            self._uniforms_BT = torch.stack(drawn).to(ids_BP.device)

    def choose(self, logits_BV: torch.Tensor) -> Chosen:
        """The likeliest tokens, or drawn ones when the temperature is above zero."""
        logprobs_B = None
        if self._seen_BV is not None:
            penalty = self._decoding.repetition_penalty
            punished_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
            logits_BV = torch.where(self._seen_BV, punished_BV, logits_BV)
        if self._uniforms_BT is None:
            chosen_B = logits_BV.argmax(-1)
        else:
            logits_BV = keep_top_p(logits_BV / self._decoding.temperature, self._decoding.top_p)
            probs_BV = logits_BV.softmax(-1)
            below_BV = probs_BV.cumsum(-1)
            total_B1 = below_BV[:, -1:]
            # Just below the total at most, so that a token without probability is never chosen.
            most_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
            mark_B1 = torch.minimum(self._uniforms_BT[:, self._step, None] * total_B1, most_B1)
            chosen_B = torch.searchsorted(below_BV, mark_B1, right=True)[:, 0]
            logprobs_B = probs_BV.gather(1, chosen_B[:, None])[:, 0].log()
        self._step += 1
        if self._seen_BV is not None:
            self._seen_BV.scatter_(1, chosen_B[:, None], True)
        return Chosen(chosen_B, logprobs_B)

    def keep(self, rows: torch.Tensor) -> None:
        """Continue with only these rows, in this order."""
        if self._seen_BV is not None:
            self._seen_BV = self._seen_BV[rows]
        if self._uniforms_BT is not None:
            self._uniforms_BT = self._uniforms_BT[rows]


def keep_top_p(logits_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Forbid the least likely tokens that together have at most 1 - top_p; the likeliest always stays."""
    if top_p >= 1.0:
        return logits_BV
    ordered_BV, index_BV = logits_BV.sort(dim=-1)
    tail_BV = ordered_BV.softmax(-1).cumsum(-1) <= 1 - top_p
    tail_BV[:, -1] = False
    return logits_BV.masked_fill(tail_BV.scatter(1, index_BV, tail_BV), -torch.inf)
