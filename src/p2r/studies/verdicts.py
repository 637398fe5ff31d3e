"""What came of each claim: holds, fails or undecided, with Holm's correction over all claims of the study.

One seed of a trained arm says nothing about others, however many questions it was asked; then nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2r.statistics import Estimate, correct_holm, estimate, permute_clusters
from p2r.studies.claims import StudyClaim
from p2r.studies.measure import CellValues, Reader
from p2r.studies.study import Study

ALPHA = 0.05

Verdict = Literal["holds", "fails", "undecided", "one seed only", "not measured yet"]


@dataclass(frozen=True, slots=True)
class JudgedClaim:
    """A claim, and what was found.

    estimate: None while a cell is not measured.
    values: of the cells, in the order of `StudyClaim.list_terms`.
    p_value: that the result is not as the verdict says; p_corrected: after Holm's correction over all claims.
    seed_p_values: by seed, McNemar's exact test with rotations kept together; only for a difference of two accuracies.
    """

    claim: StudyClaim
    estimate: Estimate | None
    values: tuple[CellValues, ...]
    p_value: float | None
    p_corrected: float | None
    seed_p_values: tuple[tuple[str, float], ...]
    verdict: Verdict

    @property
    def is_preliminary(self) -> bool:
        """Tell whether some seed has not been asked yet."""
        return any(len(each.seeds) < each.num_seeds_planned for each in self.values)


def judge_claims(study: Study, reader: Reader) -> list[JudgedClaim]:
    """Judge every claim by what is on disk."""
    values = [tuple(reader.values_of(cell) for _, cell in claim.list_terms()) for claim in study.claims]
    estimates = [_estimate(claim, own) for claim, own in zip(study.claims, values, strict=True)]
    p_values = [
        None if found is None else find_p_value(claim, found)
        for claim, found in zip(study.claims, estimates, strict=True)
    ]
    corrected = iter(correct_holm([p for p in p_values if p is not None]))
    p_corrected = [None if p is None else next(corrected) for p in p_values]
    return [
        JudgedClaim(claim, found, own, p, holm, _test_seeds(claim, own), find_verdict(claim, found, holm))
        for claim, found, own, p, holm in zip(study.claims, estimates, values, p_values, p_corrected, strict=True)
    ]


def find_p_value(claim: StudyClaim, found: Estimate) -> float:
    """The p-value by which the claim, or its opposite, is shown.

    "more" and "less" are tested from both sides at the margin. "alike" is shown by two one-sided tests where the result
    lies within the margins, and refuted at the nearer margin where it lies beyond.
    """
    bound = _find_bound(claim, found)
    return found.lies_within(claim.margin) if bound is None else found.differs_from(bound)


def _find_bound(claim: StudyClaim, found: Estimate) -> float | None:
    """The value that the result is to differ from; None where it lies between two, as expected."""
    if claim.expects == "alike":
        return None if abs(found.mean) < claim.margin else math.copysign(claim.margin, found.mean)
    return claim.margin if claim.expects == "more" else -claim.margin


def find_verdict(claim: StudyClaim, found: Estimate | None, p_corrected: float | None) -> Verdict:
    """Say what the result shows about a claim. Nothing is decided that the interval leaves open."""
    if found is None or p_corrected is None:
        return "not measured yet"
    if found.num_seeds == 1:
        return "one seed only"
    bound = _find_bound(claim, found)
    is_open = bound is not None and found.interval.low <= bound <= found.interval.high
    if p_corrected >= ALPHA or is_open:
        return "undecided"
    as_said = {
        "more": found.mean > claim.margin,
        "less": found.mean < -claim.margin,
        "alike": abs(found.mean) < claim.margin,
    }
    return "holds" if as_said[claim.expects] else "fails"


def _estimate(claim: StudyClaim, values: Sequence[CellValues]) -> Estimate | None:
    if not all(each.is_known for each in values):
        return None
    weights = [weight for weight, _ in claim.list_terms()]
    return estimate([each.as_part(weight) for weight, each in zip(weights, values, strict=True)])


def _test_seeds(claim: StudyClaim, values: Sequence[CellValues]) -> tuple[tuple[str, float], ...]:
    """The exact test of each seed, where two accuracies on the same questions are compared."""
    if len(claim.plus) != 1 or len(claim.minus) != 1 or not all(each.is_known for each in values):
        return ()
    after, before = values
    if after.questions != before.questions or {after.cell.measure, before.cell.measure} != {"accuracy"}:
        return ()
    tested: list[tuple[str, float]] = []
    for seed in dict.fromkeys((*after.seeds, *before.seeds)):
        pair = [_row_of(each, seed) for each in (after, before)]
        if seed is None and len(after.seeds) + len(before.seeds) > 2:
            continue
        if pair[0] is not None and pair[1] is not None:
            tested.append(("" if seed is None else str(seed), _test_pair(pair[0], pair[1], after.clusters_Q)))
    return tuple(tested)


def _row_of(values: CellValues, seed: int | None) -> NDArray[np.float64] | None:
    """The values of a seed; those of the only row where nothing is trained."""
    if values.seeds == (None,):
        return values.values_SQ[0]
    return values.values_SQ[values.seeds.index(seed)] if seed in values.seeds else None


def _test_pair(after_Q: NDArray[np.float64], before_Q: NDArray[np.float64], clusters_Q: Sequence[str]) -> float:
    sums: dict[str, int] = {}
    for place, (after, before) in enumerate(zip(after_Q, before_Q, strict=True)):
        if not (np.isnan(after) or np.isnan(before)):
            name = clusters_Q[place] or f"\0{place}"
            sums[name] = sums.get(name, 0) + int(after - before)
    return permute_clusters(list(sums.values()))
