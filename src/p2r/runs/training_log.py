"""The lines of a training run's logs: one class for each, constructed by training, validated by readers.

Which file holds which is said in `p2r.runs.training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

from pydantic import ConfigDict, JsonValue, ValidationError

from p2r.config import ActiveRole
from p2r.errors import StorageError, explain_fault
from p2r.files import BROKEN_LOG_HINT, read_log
from p2r.types import Frozen, Trace


class LogRow(Frozen):
    """A line of a training log. `phase` is the phase's name, `step` counts its steps from 1 (a probe's from 0)."""

    model_config = ConfigDict(extra="ignore")

    phase: str
    step: int


class Step(LogRow):
    """The metrics of one step; None where nothing is known.

    reward, accuracy: means over the judged rollouts.
    num_rows: rows that were drawn; num_failed_rows of them have no group.
    num_unjudged: rollouts without a reward. num_truncated: rollouts cut off at the token limit.
    mean_length, max_length: tokens of a rollout.
    dead_groups, dropped_groups: shares of groups whose rewards are all alike, or of which fewer than two were judged.
    drawn_reward, drawn_accuracy, drawn_dead_groups: of all groups that dynamic sampling drew, while the metrics beside
        them are of those that it kept; None without it. It takes a group as dead when its answers are all right or
        all wrong, however long they are.
    unique_evidence, unique_replies: share of the judged replies that differ within their group.
    num_box_replies: replies with boxes, the policy's and the frozen perceiver's. num_other_frame: those with a box that
        was left out because it does not fit the frame in which it is read.
    num_partner_calls, num_reused: calls of the frozen role, and calls that its memo answered instead.
    num_judge_calls, num_judge_reused: the same of a model that judges free answers.
    failures: rollouts without a reward, by why.
    mean_boxes, one_box, mean_box_area, hit_rate: of the perceiver's rollouts; areas are shares of the image.
    terms: mean of each reward term.
    policy, kl, entropy, clip_share, ratio: means over the response tokens; kl and entropy in nats.
    resting_kl: mean over the tokens of the resting role's replies, in nats; None where none were to be kept.
    num_learned_tokens: tokens of replies that a supervised step learned; its loss is their mean negative log-prob.
    num_trained_tokens: tokens of prompts and replies in all passes of the update; 0 in logs from before it was counted.
    grad_norm: before clipping.
    sampler_diff, sampler_diff_max: mean and largest absolute difference between the probabilities of a token in
        training, before the first update, and in sampling. sampler_ratio: their mean ratio, training / sampling.
        sampler_kl: k3 estimate of the divergence between them, in nats.
    timing: seconds by part and tokens per second. Only these differ between a run and its repetition.
    """

    reward: float | None = None
    accuracy: float | None = None
    drawn_reward: float | None = None
    drawn_accuracy: float | None = None
    num_rows: int = 0
    num_groups: int = 0
    num_failed_rows: int = 0
    num_rollouts: int = 0
    num_unjudged: int = 0
    num_truncated: int = 0
    num_generated_tokens: int = 0
    num_learned_tokens: int = 0
    num_trained_tokens: int = 0
    mean_length: float | None = None
    max_length: int = 0
    dead_groups: float | None = None
    dropped_groups: float | None = None
    drawn_dead_groups: float | None = None
    unique_evidence: float | None = None
    unique_replies: float | None = None
    num_box_replies: int = 0
    num_other_frame: int = 0
    num_partner_calls: int = 0
    num_reused: int = 0
    num_judge_calls: int = 0
    num_judge_reused: int = 0
    failures: Mapping[str, int] = {}
    mean_boxes: float | None = None
    one_box: float | None = None
    mean_box_area: float | None = None
    hit_rate: float | None = None
    lr: float | None = None
    terms: Mapping[str, float | None] = {}
    loss: float | None = None
    policy: float | None = None
    kl: float | None = None
    entropy: float | None = None
    clip_share: float | None = None
    ratio: float | None = None
    resting_kl: float | None = None
    grad_norm: float | None = None
    sampler_diff: float | None = None
    sampler_diff_max: float | None = None
    sampler_ratio: float | None = None
    sampler_kl: float | None = None
    timing: Mapping[str, float] = {}


class Probe(LogRow):
    """The metrics of one probe: what the policy did with its questions; None where nothing is known.

    num_failed: walks that failed, in both modes. num_findable: samples with gold boxes that were looked at.
    seen_rate: share of these whose gold boxes all lie wholly in a crop.
    intervals: by metric, the ends of its 95% interval over samples.
    """

    num_samples: int = 0
    num_failed: int = 0
    num_findable: int = 0
    accuracy_p2r: float | None = None
    accuracy_direct: float | None = None
    hit_rate: float | None = None
    mean_iou: float | None = None
    seen_rate: float | None = None
    mean_boxes: float | None = None
    one_box: float | None = None
    mean_box_area: float | None = None
    intervals: Mapping[str, tuple[float, float] | None] = {}


class QuotedRollout(Frozen):
    """One rollout.

    reward, advantage: None when it was masked, because it, or too much of its group, was not judged.
    failure: why it was not judged.
    """

    model_config = ConfigDict(extra="ignore")

    text: str
    reward: float | None
    advantage: float | None
    terms: Mapping[str, float]
    failure: str = ""
    trace: Trace | None


class QuotedGroup(LogRow):
    """One group of a step, word by word."""

    sample_id: str
    role: ActiveRole
    rollouts: tuple[QuotedRollout, ...]


class RecipeChange(LogRow):
    """Settings that are others after a step than before it, by their dotted names.

    The recipe in the folder has those of `now`. What is None in one of them was not there, or not set.
    """

    was: Mapping[str, JsonValue] = {}
    now: Mapping[str, JsonValue] = {}


class RewardSources(Frozen):
    """A hash of the file that defines each reward function of the user's, by term, as the run last used it."""

    sources: Mapping[str, str]


RowType = TypeVar("RowType", bound=Frozen)


def read_rows(path: Path, kind: type[RowType]) -> list[RowType]:
    """The rows of a training log; [] when the file does not exist yet.

    Raises:
        StorageError: a line cannot be read, or is not a row of this kind.
    """
    rows: list[RowType] = []
    for number, row in enumerate(read_log(path) if path.exists() else [], start=1):
        try:
            rows.append(kind.model_validate(row))
        except ValidationError as error:
            raise StorageError(
                f"line {number} of {path} is not usable: {explain_fault(error.errors()[0])}", hint=BROKEN_LOG_HINT
            ) from error
    return rows


def value_of(row: Step | Probe, name: str) -> float | None:
    """A metric by its name, such as `kl` or `timing/seconds`; None where the row does not have it."""
    outer, _, inner = name.partition("/")
    value: object = getattr(row, outer, None)
    if inner:
        value = cast("Mapping[str, object]", value).get(inner) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def interval_of(row: Step | Probe, name: str) -> tuple[float, float] | None:
    """The ends of a metric's 95% interval; None where they are not known."""
    return row.intervals.get(name) if isinstance(row, Probe) else None
