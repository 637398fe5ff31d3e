"""A few groups that go through the model together: packed once, and what each pass over them finds.

The first pass over a batch is the policy that sampled. Its log-probs are kept, for later updates to be clipped against,
and are compared with those that the sampler found for the same tokens: two programs, or two number formats, seldom
agree to the last digit, and where they are far apart the rollouts are not the policy's own.

Shapes: B rollouts of a micro-batch, T longest response.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from p2r.config import Phase
from p2r.errors import ConfigError
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import VisionLanguageModel
from p2r.models.local.sight import Sight, learns_to_see
from p2r.training.engines.local.distributed import World, is_split
from p2r.training.engines.local.logprobs import Logprobs, Packed, compute_logprobs, pack
from p2r.training.engines.local.policy import Policy, Snapshot
from p2r.training.loss import BatchSize, LossReport, policy_loss, resting_loss


class Reply(NamedTuple):
    """A reply that is learned from. logprobs: the sampler's, empty where it did not tell them."""

    token_ids: tuple[int, ...]
    advantage: float
    logprobs: tuple[float, ...] = ()


class MicroBatch:
    """Prompts with the replies that are learned from.

    counts: False masks all of them.
    is_resting: they are the resting role's, and learned from only to be kept.
    gap: of the first pass; see `compare_with_sampler`. None before it.
    """

    def __init__(
        self,
        policy: Policy,
        phase: Phase,
        rows: Sequence[tuple[EncodedPrompt, Sequence[Reply]]],
        *,
        counts: bool = True,
        is_resting: bool = False,
    ) -> None:
        self._model, self._phase, self.is_resting = policy.model, phase, is_resting
        packable = [(prompt, [reply.token_ids for reply in replies]) for prompt, replies in rows]
        self.packed: Packed = pack(policy.model, packable, patch_format=policy.checkpoint.patches)
        replies = [reply for _, replies in rows for reply in replies]
        needs_sampler = counts and not is_resting and phase.loss.importance_cap > 0
        if needs_sampler and any(not reply.logprobs for reply in replies):
            raise ConfigError(
                "loss.importance_cap needs the log-probs of the sampler, and it does not tell them",
                hint="loss.importance_cap = 0",
            )
        self._advantages_B = torch.tensor([reply.advantage for reply in replies], device=policy.model.device)
        self._mask_BT = self.packed.mask_BT & counts
        self._sampler_BT = _lay_out_logprobs(replies, self.packed)
        self._sight, self._at_once = _find_sight(policy)
        self._reference_BT: torch.Tensor | None = None
        self._old_BT: torch.Tensor | None = None
        self.gap: torch.Tensor | None = None

    @property
    def lacks_reference(self) -> bool:
        """Tell whether the reference still has to be measured."""
        return self._reference_BT is None and (self.is_resting or self._phase.loss.kl_coef > 0)

    def measure_reference(self, snapshot: Snapshot) -> None:
        """Log-probs under the phase's snapshot, once per batch."""
        with torch.no_grad(), snapshot.reference() as engine:
            self._reference_BT = self._measure(engine.model, with_entropy=False).logprobs_BT

    def measure_old(self) -> None:
        """Log-probs of the policy that sampled, before another mini-batch changes it."""
        with torch.no_grad():
            self._keep(self._measure(self._model, with_entropy=False).logprobs_BT)

    def compute_loss(self, batch: BatchSize, *, with_entropy: bool) -> LossReport:
        """Line 34: this micro-batch's share of the loss, with gradient."""
        measured = self._measure(self._model, with_entropy=with_entropy and not self.is_resting)
        if self.is_resting:
            assert self._reference_BT is not None, "the resting role is kept where the reference is"
            return resting_loss(measured.logprobs_BT, self._reference_BT, self._mask_BT, self._phase.loss, batch)
        is_first = self._old_BT is None
        if is_first:
            self._keep(measured.logprobs_BT.detach())
        return policy_loss(
            measured.logprobs_BT,
            None if is_first else self._old_BT,
            self._reference_BT,
            self._advantages_B,
            self._mask_BT,
            self._phase.loss,
            batch,
            sampler_logprobs_BT=self._sampler_BT,
            entropy_BT=measured.entropy_BT,
        )

    def forget_images(self) -> None:
        """Free the memory of the images' features, after the last pass."""
        if self._sight is not None:
            self._sight.forget(self.packed.images)

    def _keep(self, logprobs_BT: torch.Tensor) -> None:
        self._old_BT = logprobs_BT
        self.gap = compare_with_sampler(logprobs_BT, self._sampler_BT, self._mask_BT)

    def _measure(self, model: VisionLanguageModel, *, with_entropy: bool) -> Logprobs:
        """Log-probs at the temperature of sampling, and entropies."""
        temperature = self._phase.rollout.temperature
        return compute_logprobs(
            model,
            self.packed,
            temperature=temperature,
            with_entropy=with_entropy,
            sight=self._sight,
            at_once=self._at_once,
        )


@dataclass(frozen=True, slots=True)
class SamplerGap:
    """The distance between the policy's first pass and what the sampler found, over tokens.

    diff, diff_max: mean and largest absolute difference of the probabilities.
    ratio: mean of policy / sampler.
    kl: the k3 estimate of the divergence of the policy from the sampler, in nats.
    """

    diff: float
    diff_max: float
    ratio: float
    kl: float


def gather_gap(micros: Sequence[MicroBatch], world: World) -> SamplerGap | None:
    """The gap over the tokens of all processes; None where no sampler told its log-probs."""
    found = [micro.gap for micro in micros if micro.gap is not None]
    if not found:  # in any process: there were replies of the resting role alone
        return None
    gaps = torch.stack(found)
    num_known, diff, ratio, kl = world.add_up(list(map(float, gaps[:, :-1].sum(dim=0))))
    diff_max = max(world.gather([float(gaps[:, -1].max())]))
    return SamplerGap(diff / num_known, diff_max, ratio / num_known, kl / num_known) if num_known else None


def compare_with_sampler(logprobs_BT: torch.Tensor, sampler_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Compare the tokens of which both log-probs are known.

    Returns:
        (5,): their number; sums of the differences, ratios and divergences of `SamplerGap`; the largest difference.
    """
    known_BT = mask_BT & ~sampler_BT.isnan()
    apart_BT = torch.where(known_BT, logprobs_BT - sampler_BT, 0)
    ratio_BT = apart_BT.exp()
    diff_BT = torch.where(known_BT, (logprobs_BT.exp() - sampler_BT.exp()).abs(), 0)
    sums = [known_BT.to(ratio_BT.dtype), diff_BT, ratio_BT * known_BT, apart_BT.expm1() - apart_BT]
    return torch.stack([*(each_BT.sum() for each_BT in sums), diff_BT.max()])


def _lay_out_logprobs(replies: Sequence[Reply], packed: Packed) -> torch.Tensor:
    """(B, T) of the sampler's log-probs, NaN where they are not known."""
    longest = packed.mask_BT.shape[1]
    rows = [[*reply.logprobs, *[torch.nan] * (longest - len(reply.logprobs))] for reply in replies]
    return torch.tensor(rows, device=packed.mask_BT.device)


def _find_sight(policy: Policy) -> tuple[Sight | None, int | None]:
    """The policy's sight, which knows what the sampler saw, and its limit; None for a tower that learns.

    Split over processes, all of them must run the tower equally often: each micro-batch starts afresh, and looks once.
    """
    if learns_to_see(policy.model):
        return None, None
    if is_split(policy.model) or policy.engine.sight is None:
        return Sight(), sys.maxsize
    return policy.engine.sight, None
