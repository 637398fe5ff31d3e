"""Rows to train on, checked before the first step, so that nothing fails in the middle of a run.

Each row's image is opened; its right answer, given as a model would give it, has to be judged right (which refuses a
target outside the options); and the final prompts of the roles that learn have to fit. Their lengths are exact: the
very chat text, with as many visual tokens as the images will take. A reasoner's evidence is not known yet, so the
largest is assumed: the whole image, and three crops as large as crops can get.

Paper: appendix C.1 (P2R-10k) and Table 6 (`filter_overlong_prompts`). Needles come from seeds that are reserved for
training. Boxes in the data are only for probes and reports; nothing is learned from them, unless a reward term compares
with them: then each row needs its gold boxes, or has to say that there is nothing to find. In the same way each row
needs key words if a reward term looks for them.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from p2r.answers import extract_answer
from p2r.benchmarks.base import LeftOut, leave_out
from p2r.benchmarks.check import make_ideal_reply
from p2r.benchmarks.training_rows import load_source
from p2r.config import ActiveRole, DataSettings
from p2r.dialogue import Budget, ModelProfile, Prompt
from p2r.errors import DataError, P2RError
from p2r.evidence import MAX_CROPS
from p2r.images.budget import MAX_ASPECT_RATIO, smart_resize
from p2r.images.load import read_size
from p2r.judges import rule_for
from p2r.models.local.encoding import PromptEncoder
from p2r.prompts import PromptSet
from p2r.types import Sample

MOST_LISTED = 20
SKIP_HINT = "data.skip_bad = {} would leave out this row"
"""The hint about a bad row that could be left out."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Rows that can be trained on, and rows that were left out.

    dropped: too long for a role. left_out: not usable; at most as many as `skip_bad` allows.
    longest_prompt: in tokens, by role, of the rows that are kept.
    """

    rows: Sequence[Sample]
    num_read: int
    dropped: tuple[LeftOut, ...]
    left_out: tuple[LeftOut, ...]
    longest_prompt: dict[ActiveRole, int]
    source: str
    fingerprint: str
    notes: tuple[str, ...]

    def explain(self) -> Iterator[str]:
        """Say in sentences which rows are used and which are left out."""
        yield f"{len(self.rows)} of {self.num_read} rows of {self.source} are used"
        for reason, count in Counter(row.reason for row in self.dropped).items():
            yield f"{count} left out: {reason}"
        for row in self.left_out[:MOST_LISTED]:
            yield f"left out, {row.place}: {row.reason}"
        if len(self.left_out) > MOST_LISTED:
            yield f"and {len(self.left_out) - MOST_LISTED} more"
        yield from self.notes


def load_training_data(
    settings: DataSettings,
    roles: Sequence[ActiveRole],
    encoder: PromptEncoder,
    profile: ModelProfile,
    prompts: PromptSet,
    *,
    needs_target: bool = True,
    needs_gold: bool = False,
    needs_key_words: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> TrainingData:
    """Read and check all rows.

    Args:
        roles: their prompts have to fit.
        needs_target, needs_gold, needs_key_words: whether a row needs a right answer, gold boxes, and key words, to be
            rewarded.
        on_progress: called with the number of rows that are checked, and the number of all.

    Raises:
        DataError: there are no rows, more bad ones than `skip_bad` allows, or none is left.
    """
    benchmark = load_source(settings)
    samples = benchmark[: settings.num_rows] if settings.num_rows is not None else list(benchmark)
    left_out, dropped, rows = list(benchmark.left_out), list[LeftOut](), list[Sample]()
    longest: dict[ActiveRole, int] = dict.fromkeys(roles, 0)
    decode = settings.check_images == "decode" and not settings.is_generated
    checks = [(needs_target, _check_answer), (needs_gold, _check_gold), (needs_key_words, _check_key_words)]
    faults = _check_rows(samples, decode, [check for is_needed, check in checks if is_needed])
    for count, (sample, fault) in enumerate(zip(samples, faults, strict=True), start=1):
        if on_progress is not None:
            on_progress(count, len(samples))
        try:
            if fault is not None:
                raise fault
            lengths: dict[ActiveRole, int] = {
                role: count_tokens(sample, role, encoder, profile.budget, prompts) for role in roles
            }
        except P2RError as error:
            subject = f"row {sample.id!r} cannot be trained on"
            leave_out(left_out, sample.id, error, settings.skip_bad, subject=subject, skip=SKIP_HINT)
            continue
        over: list[ActiveRole] = [role for role in roles if lengths[role] > settings.max_prompt_tokens.of(role)]
        if over:
            limit = settings.max_prompt_tokens.of(over[0])
            dropped.append(LeftOut(sample.id, f"the {over[0]}'s prompt can be longer than {limit} tokens"))
            continue
        rows.append(sample)
        longest = {role: max(longest[role], lengths[role]) for role in roles}
    if not rows:
        reason = dropped[0].reason if dropped else "none is usable"
        raise DataError(
            f"no row of {benchmark.source} is left to train on: {reason}",
            hint="raise data.max_prompt_tokens, or lower model.max_pixels" if dropped else "",
        )
    return TrainingData(
        rows=rows,
        num_read=len(samples) + len(benchmark.left_out),
        dropped=tuple(dropped),
        left_out=tuple(left_out),
        longest_prompt=longest,
        source=benchmark.source,
        fingerprint=benchmark.fingerprint,
        notes=(*benchmark.differences, *benchmark.notes),
    )


def count_tokens(sample: Sample, role: ActiveRole, encoder: PromptEncoder, budget: Budget, prompts: PromptSet) -> int:
    """Tokens of the longest prompt that a role can get for a sample. A perceiver has only one.

    Raises:
        ImageError: the image cannot be opened, or no model can see it.
        DataError: the question cannot be asked.
    """
    width, height = read_size(sample.image)
    fit_height, fit_width = smart_resize(height, width, budget)
    visual = [fit_height * fit_width // budget.factor**2]
    if role == "reasoner":
        visual += [_largest_crop(width, height, budget)] * MAX_CROPS
        texts = [(prompts.reasoner(sample), len(visual)), (prompts.reasoner_without_evidence(sample), 1)]
    else:
        texts = [(prompts.perceiver(sample), 1)]
    return max(
        _count_text(prompts, role, text, num_images, encoder, budget.factor) + sum(visual[:num_images])
        for text, num_images in texts
    )


def _check_rows(
    samples: Sequence[Sample], decode: bool, checks: Sequence[Callable[[Sample], P2RError | None]]
) -> Iterator[P2RError | None]:
    """Yield what is wrong with each row, apart from its length. Images are decoded side by side, each once."""
    seen: set[str] = set()
    fresh = [sample.image.uri not in seen and not seen.add(sample.image.uri) for sample in samples]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        shown_images = pool.map(_open, samples, [decode and each for each in fresh])
        for sample, fault in zip(samples, shown_images, strict=True):
            yield fault or next(filter(None, (check(sample) for check in checks)), None)


def _open(sample: Sample, decode: bool) -> P2RError | None:
    try:
        if decode:
            sample.image.load()
        else:
            read_size(sample.image)
    except P2RError as error:
        return error
    return None


def _check_answer(sample: Sample) -> P2RError | None:
    """Judge the right answer; None when it is judged right."""
    if sample.target is None:
        return DataError("it has no right answer", hint="training learns from right answers: give each row a target")
    answer = extract_answer(make_ideal_reply(sample), sample.answer_form, sample.options)
    try:
        verdict = rule_for(sample).compare(sample, answer, sample.gold_boxes)
    except P2RError as error:
        return error
    if verdict.correct:
        return None
    return DataError(
        f"its right answer {sample.target!r} would not be judged right as {sample.answer_form}",
        hint="check the target and the answer form",
    )


def _check_gold(sample: Sample) -> P2RError | None:
    if sample.gold_boxes or sample.nothing_there:
        return None
    return DataError(
        "it has no gold boxes, which a term of its reward compares with",
        hint='give it boxes, and "boxes": [] where there is nothing to find',
    )


def _check_key_words(sample: Sample) -> P2RError | None:
    if sample.key_words:
        return None
    return DataError(
        "it has no key words, which a term of its reward looks for in the reply",
        hint='give it some, such as "key_word": ["sail", "star"], or reward.terms.keywords the weight 0',
    )


def _largest_crop(width: int, height: int, budget: Budget) -> int:
    """The most visual tokens that a crop of an image can take, whatever its shape."""
    most = budget.max_pixels // budget.factor**2
    whole = max(1, round(width / budget.factor)) * max(1, round(height / budget.factor))
    if whole > most:
        return most  # the image is shrunk; a crop of another shape may fill the budget better
    least = budget.min_pixels / budget.factor**2
    enlarged = least + math.sqrt(least) * 2 * math.sqrt(MAX_ASPECT_RATIO) + 1  # both sides of a thin crop rounded up
    return min(most, max(whole, math.ceil(enlarged)))


def _count_text(
    prompts: PromptSet, role: ActiveRole, text: str, num_images: int, encoder: PromptEncoder, factor: int
) -> int:
    """Tokens of the final prompt without its visual ones, found with images of one visual token each."""
    dot = Image.new("RGB", (factor, factor))
    prompt = Prompt(role, prompts.system, text, (dot,) * num_images, prompts.fingerprint)
    return len(encoder.encode(prompt).token_ids) - num_images
