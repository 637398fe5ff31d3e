"""Choose the next token, the likeliest or a drawn one, with repetition penalty, temperature and top-p.

Shapes: B rows, V vocabulary, T steps.
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

    A row's draws depend only on its seed: one uniform number per token chooses the token at which the cumulated
    probability passes it. The numbers are drawn ahead on the CPU, so that they are the same on every device and cost
    nothing per step.

    Args:
        num_rows: each is begun by `start`, together with the others or later.
        num_steps: the most tokens of a row; further ones are drawn, but mean nothing.
    """

    def __init__(
        self, decoding: Decoding, num_rows: int, num_steps: int, vocabulary: int, device: torch.device
    ) -> None:
        self._decoding = decoding
        self._all_B = torch.arange(num_rows, device=device)
        self._step_B = torch.zeros_like(self._all_B)
        self._true = torch.ones((), dtype=torch.bool, device=device)  # a step that is recorded sends nothing there
        self._seen_BV: torch.Tensor | None = None
        if decoding.repetition_penalty != 1.0:
            self._seen_BV = torch.zeros(num_rows, vocabulary, dtype=torch.bool, device=device)
        self._uniforms_BT: torch.Tensor | None = None
        if decoding.temperature > 0:
            self._uniforms_BT = torch.zeros(num_rows, num_steps, device=device)

    def start(self, row: int, prompt_ids: Sequence[int], seeds: Sequence[int]) -> None:
        """Begin replies to a prompt, one per seed, in the rows from `row` on, whatever was in these before.

        Args:
            prompt_ids: for the repetition penalty.
            seeds: not used when decoding is greedy.
        """
        rows = slice(row, row + len(seeds))
        self._step_B[rows] = 0
        if self._seen_BV is not None:
            self._seen_BV[rows] = False
            self._seen_BV[rows, torch.tensor(sorted(set(prompt_ids)), device=self._seen_BV.device)] = True
        if self._uniforms_BT is not None:
            num_steps = self._uniforms_BT.shape[1]
            drawn = [torch.rand(num_steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            self._uniforms_BT[rows] = torch.stack(drawn).to(self._uniforms_BT.device)

    def choose(self, logits_BV: torch.Tensor, rows_B: torch.Tensor | None = None) -> Chosen:
        """The likeliest tokens, or drawn ones when the temperature is above zero.

        Args:
            rows_B: the rows of these logits; None for all, in order.
        """
        rows_B = self._all_B if rows_B is None else rows_B
        logprobs_B = None
        if self._seen_BV is not None:
            penalty = self._decoding.repetition_penalty
            punished_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
            logits_BV = torch.where(self._seen_BV[rows_B], punished_BV, logits_BV)
        if self._uniforms_BT is None:
            chosen_B = logits_BV.argmax(-1)
        else:
            logits_BV = keep_top_p(logits_BV / self._decoding.temperature, self._decoding.top_p)
            probs_BV = logits_BV.softmax(-1)
            below_BV = probs_BV.cumsum(-1)
            total_B1 = below_BV[:, -1:]
            # Just below the total at most, so that a token without probability is never chosen.
            most_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
            step_B = self._step_B[rows_B]
            mark_B1 = torch.minimum(self._uniforms_BT[rows_B, step_B][:, None] * total_B1, most_B1)
            chosen_B = torch.searchsorted(below_BV, mark_B1, right=True)[:, 0]
            logprobs_B = probs_BV.gather(1, chosen_B[:, None])[:, 0].log()
            self._step_B[rows_B] = (step_B + 1).clamp(max=self._uniforms_BT.shape[1] - 1)
        if self._seen_BV is not None:
            self._seen_BV.index_put_((rows_B, chosen_B), self._true)
        return Chosen(chosen_B, logprobs_B)

    def keep(self, rows: torch.Tensor) -> None:
        """Continue with only these rows, in this order."""
        self._all_B, self._step_B = self._all_B[: len(rows)], self._step_B[rows]
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
