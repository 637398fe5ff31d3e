"""A seed for every rollout, from what it is and not from where it stands in a batch."""

from __future__ import annotations

import hashlib


def seed_rollouts(run_seed: int, purpose: str, step: int, row: str, num_rollouts: int) -> list[int]:
    """One seed per rollout.

    Args:
        purpose: what the rollouts are for: a phase and a role.
        row: the sample's id.
    """
    return [_hash(f"{run_seed}/{purpose}/{step}/{row}/{rollout}") for rollout in range(num_rollouts)]


def _hash(text: str) -> int:
    """63 bits, the most that torch's generators take as a positive seed."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
