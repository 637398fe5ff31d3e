"""Checks of everything else: counts of tokens, repeats, log-probabilities, the prefix cache, the context."""

from __future__ import annotations

import asyncio
import math

from p2r.doctor.boxes import ask_where
from p2r.doctor.charts import draw_charts
from p2r.doctor.findings import Finding, Measurements
from p2r.doctor.images import NEEDED_IMAGES
from p2r.doctor.patient import TEXT, Patient
from p2r.errors import EndpointError, count_nouns
from p2r.models.profiles import MIN_TOKENS

MOST_LOGPROBS = 20
CONTEXT_FIELDS = ("max_model_len", "context_length", "max_context_length", "n_ctx")
REPLY_TOKENS = 1024 + 512
"""The room for the reasoner's reply and its text."""
LONGEST_THOUGHT = 1024
"""A thinking model may need so many tokens before its first word."""
SUM_SLACK = 1.01
"""Probabilities may add up to this, as servers round them."""


async def check_text(patient: Patient, facts: Measurements) -> list[Finding]:
    """Check that it replies and counts. An EndpointError here ends the examination."""
    await patient.ask("Say yes.", most_tokens=LONGEST_THOUGHT)
    facts.text_tokens = await patient.count(TEXT)
    if facts.text_tokens is None:
        return [
            Finding(
                "tokens", "bad", "It does not say how many tokens a prompt has.",
                "Lost, merged, and resized images cannot be noticed.",
            )
        ]  # fmt: skip
    return [Finding("tokens", "good", "It counts the tokens of a prompt.")]


async def check_repeats(patient: Patient, facts: Measurements) -> list[Finding]:
    """Check that greedy replies are the same each time, also side by side."""
    [chart] = draw_charts(1, facts.side)
    url = facts.url(chart.image)
    alone = [(await ask_where(patient, chart, url)).text for _ in range(3)]
    together = [each.text for each in await asyncio.gather(*(ask_where(patient, chart, url) for _ in range(4)))]
    facts.repeats = len(set(alone)) == 1
    if not facts.repeats:
        return [
            Finding(
                "repeats", "bad", "The same question gets another reply each time, at temperature 0.",
                "A run cannot be repeated, and two runs differ by chance: some servers set a temperature.",
            )
        ]  # fmt: skip
    if set(together) != set(alone):
        return [
            Finding(
                "repeats", "note", "Replies that are drawn side by side differ from one that is drawn alone.",
                "Batches round differently. `num_at_once=1` repeats a run to the word.",
            )
        ]  # fmt: skip
    return [Finding("repeats", "good", "The same question gets the same reply, alone and side by side.")]


async def check_logprobs(patient: Patient, facts: Measurements) -> list[Finding]:
    """Check that it lists the likeliest tokens, with probabilities that can be."""
    fields = {"logprobs": True, "top_logprobs": MOST_LOGPROBS}
    so = "The mode `zoom` needs them; the other modes do not."
    try:
        listed = (await patient.ask("Say yes.", most_tokens=4, fields=fields)).logprobs
    except EndpointError as error:
        return [Finding("log-probabilities", "note", f"It refuses to list likely tokens: {error.message}", so)]
    facts.profile = facts.profile.model_copy(update={"num_logprobs": len(listed)})
    if not listed:
        return [Finding("log-probabilities", "note", "It lists none of the likely tokens that were asked for.", so)]
    total = sum(math.exp(min(each, 1)) for each in listed)
    if total > SUM_SLACK:
        says = f"The probabilities of {len(listed)} likely tokens add up to {total:.2f}."
        return [Finding("log-probabilities", "bad", says, "The mode `zoom` would weigh yes and no wrongly.")]
    if len(listed) < MOST_LOGPROBS:
        says = f"It lists {count_nouns(len(listed), 'likely token')} of the {MOST_LOGPROBS} that were asked for."
        return [Finding("log-probabilities", "note", says, so)]
    return [Finding("log-probabilities", "good", f"It lists the {MOST_LOGPROBS} likeliest tokens.")]


async def check_cache(patient: Patient, facts: Measurements) -> list[Finding]:
    """Check whether it keeps what it has read of a prompt."""
    [chart] = draw_charts(1, facts.side)
    url = facts.url(chart.image)
    replies = [await ask_where(patient, chart, url) for _ in range(2)]
    cached = replies[1].num_cached
    if cached is None:
        return [Finding("prefix cache", "unknown", "It does not say how much of a prompt it has in its cache.")]
    if not cached:
        so = "Each rollout reads its whole prompt again (vLLM: --enable-prefix-caching)."
        return [Finding("prefix cache", "note", "It reads a prompt again that it has just read.", so)]
    return [Finding("prefix cache", "good", f"It keeps prompts: {cached} of {replies[1].num_prompt} tokens.")]


async def check_settings(patient: Patient, facts: Measurements) -> list[Finding]:
    """Say which settings it has refused so far."""
    del facts
    return [Finding("settings", "note", f"It {loss}.") for loss in patient.find_losses().values()]


async def check_context(patient: Patient, facts: Measurements) -> list[Finding]:
    """Find out how long a prompt and its reply may be, and whether the images that p2r sends fit."""
    listed = (patient.entry.get(name) for name in CONTEXT_FIELDS)
    context = next((each for each in listed if isinstance(each, int) and each > 0), None)
    if context is None:
        return [
            Finding(
                "context", "unknown", "It does not say how long a prompt may be.",
                "A prompt that is too long fails, and the message says so.",
            )
        ]  # fmt: skip
    facts.profile = facts.profile.model_copy(update={"context": context})
    budget = facts.profile.profile().budget
    area = budget.factor**2
    room = max(context - REPLY_TOKENS, 0) // NEEDED_IMAGES
    if room * area >= budget.max_pixels:
        return [Finding("context", "good", f"It has room for {context:,} tokens: four of the largest images fit.")]
    says = f"It has room for {context:,} tokens: a reply, and four images of {room:,} visual tokens."
    if room * area < max(budget.min_pixels, MIN_TOKENS * area):
        so = "Even the smallest images do not fit: raise the server's context (vLLM: --max-model-len; llama.cpp: -c)."
        return [Finding("context", "bad", says, so)]
    return [Finding("context", "note", says, f"Larger images do not fit: state `max_pixels={room * area}`.")]
