"""Demonstrations that a phase can learn from, checked before its first step: worded, and short enough."""

from __future__ import annotations

from dataclasses import replace

from p2r.benchmarks.base import LeftOut, Sieve, leave_out
from p2r.benchmarks.layout import Source
from p2r.benchmarks.load import check_split, locate_rows
from p2r.benchmarks.row_layouts.answer_form import read_options
from p2r.config import Phase, PhaseRole, Recipe
from p2r.dialogue import Budget
from p2r.errors import DataError, P2RError
from p2r.models.load import find_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.prompts import PromptSet, load_prompt_set
from p2r.training.engines.local.policy import training_profile
from p2r.training.rows.check import SKIP_HINT
from p2r.training.sft.demonstrations import Demonstration, Demonstrations, read_demonstrations, refuse_all
from p2r.training.sft.encode import count_tokens
from p2r.types import Sample


def load_all_demonstrations(recipe: Recipe) -> dict[int, Demonstrations]:
    """The rows of each supervised phase, by its index, without loading the model. Raises as `load_demonstrations`."""
    loaded: dict[int, Demonstrations] = {}
    for phase in recipe.phases():
        if phase.kind == "sft":
            checkpoint = find_checkpoint(phase.base)
            budget = training_profile(checkpoint, recipe.model.max_pixels).budget
            prompts = load_prompt_set(phase.rollout.prompts)
            loaded[phase.index] = load_demonstrations(phase, PromptEncoder(checkpoint), budget, prompts)
    return loaded


def load_demonstrations(phase: Phase, encoder: PromptEncoder, budget: Budget, prompts: PromptSet) -> Demonstrations:
    """Read, word and measure the rows of a supervised phase.

    Args:
        budget: of the images.
        prompts: word the first question where the settings say so.

    Raises:
        DataError: there are no rows, more bad ones than `skip_bad` allows, or none is left.
    """
    data, settings = phase.data, phase.sft
    path = locate_rows(data.source)
    if data.split is not None:
        check_split("rows", path, data.split)
    source = Source(path, Sieve(skip_bad=data.skip_bad, check_images=False), data.split, images=data.images)
    found = read_demonstrations(source, settings)
    rows, left_out, bad, longest = list[Demonstration](), list(found.left_out), list(found.bad), 0
    for row in found.rows[: data.num_rows]:
        try:
            worded = row if settings.prompt == "row" else word_question(row, phase.role, prompts)
            length = count_tokens(worded, encoder, budget)
        except P2RError as error:
            subject = f"row {row.id!r} cannot be learned from"
            leave_out(bad, row.id, error, data.skip_bad, subject=subject, skip=SKIP_HINT)
            continue
        if length > settings.max_tokens:
            left_out.append(LeftOut(row.id, f"longer than {settings.max_tokens} tokens"))
            continue
        rows.append(worded)
        longest = max(longest, length)
    if not rows:
        limits = ["sft.max_tokens", "model.max_pixels"] if len(left_out) > len(found.left_out) else []
        raise refuse_all(found.source, [*left_out, *bad], limits)
    return replace(found, rows=rows, left_out=tuple(left_out), bad=tuple(bad), longest=longest)


def word_question(row: Demonstration, role: PhaseRole, prompts: PromptSet) -> Demonstration:
    """Put the first question of a row into the prompt of a role, with the set's system message.

    The reasoner is asked as with evidence where the row has several images, and as without it otherwise.

    Raises:
        DataError: the row has no image, or its question cannot be asked.
    """
    if not row.images:
        raise DataError("no image, which the prompt of a role is about", hint='leave out sft.prompt = "role"')
    (question, reply), *later = row.turns
    options = read_options(question)
    sample = Sample(
        id=row.id,
        image=row.images[0],
        question=question,
        options=options,
        answer_form="choice" if options else "free_form",
        options_in_question=True,
    )
    if role == "perceiver":
        text = prompts.perceiver(sample)
    elif role == "reasoner" and len(row.images) > 1:
        text = prompts.reasoner(sample)
    else:
        text = prompts.reasoner_without_evidence(sample)
    return replace(row, system=prompts.system, turns=((text, reply), *later))
