"""Checks of images: which formats are read, how they are sized, and whether each of several is seen, in order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from p2r.doctor.charts import CARD_COLORS, draw_card, read_colors, to_url
from p2r.doctor.findings import Finding, Measurements
from p2r.doctor.patient import TEXT, Patient
from p2r.doctor.sizes import MOST_FRAME_TOKENS, SIDES, Sizing, fit_sizing
from p2r.errors import EndpointError, count_nouns
from p2r.models.profiles import FAMILIES

FORMATS = ("png", "bmp", "webp", "jpeg")
NUM_IMAGES = (2, 3, 4, 8)
NEEDED_IMAGES = 4
"""The most images that the reasoner is sent."""
CHART_SIDE = 512
"""The side of the charts, in pixels, where the server leaves them so. It is far from 1000: no two frames look alike."""
LARGEST_SENT = 2048
"""The side of the largest square that p2r sends: 4,096 tokens of 32 pixels."""
LEAST_ROWS = 4
"""A card has at least so many rows of tokens, which are more than what a template puts around an image."""
PLATEAU = 3
"""So many squares with one count are its largest image."""


async def check_formats(patient: Patient, facts: Measurements) -> list[Finding]:
    """Find out which image formats it reads."""
    card = draw_card("blue", facts.side, facts.side)
    read: list[str] = []
    refusals: list[EndpointError] = []
    for kind in FORMATS:
        try:
            await patient.count(TEXT, [to_url(card, kind)])
        except EndpointError as error:
            refusals.append(error)
        else:
            read.append(kind)
    if not read:
        raise EndpointError(refusals[0].message, hint="is a vision-language model served, with its vision part?")
    facts.profile = facts.profile.model_copy(update={"image_formats": tuple(read)})
    facts.kind = read[0]
    if read == ["jpeg"]:
        return [Finding("formats", "bad", "It reads JPEG alone, which loses detail.", "State `transport=jpeg`.")]
    others = [kind for kind in FORMATS if kind not in read]
    if others:
        return [Finding("formats", "good", f"It reads {', '.join(read)}, not {', '.join(others)}.")]
    return [Finding("formats", "good", f"It reads {', '.join(read)}.")]


async def check_sizes(patient: Patient, facts: Measurements) -> list[Finding]:
    """Find out how large visual tokens are, and between which sizes an image is left as it is."""
    if facts.text_tokens is None:
        return [Finding("image size", "unknown", "Without counts of tokens, image sizes cannot be found out.")]
    counts: dict[int, int] = {}
    stopped = ""
    for side in SIDES:
        try:
            num = await _count_images(patient, facts, (side, side))
        except EndpointError as error:
            if not counts:  # some refuse an image that is smaller than a token
                continue
            stopped = error.message
            break
        if num is None:
            return [Finding("image size", "unknown", "It does not always say how many tokens a prompt has.")]
        counts[side] = num
        if len(set(counts.values())) > 2 and len({*list(counts.values())[-PLATEAU:]}) == 1:
            break
    sizing = fit_sizing(counts)
    if sizing is None:
        return [_explain_counts(counts, stopped)]
    area = sizing.factor**2
    alike = [name for name, each in FAMILIES.items() if each.patches.factor == sizing.factor]
    family = patient.family if patient.family in alike else next(iter(alike), None)
    tried = max(counts)
    least = None if sizing.least is None else sizing.least * area
    most = sizing.most * area if sizing.most is not None else tried * tried if stopped else None
    enough = next((side for side in sizing.sides if side >= LEAST_ROWS * sizing.factor), sizing.sides[-1])
    facts.card_side = math.ceil(enough / sizing.factor) * sizing.factor
    largest = sizing.sides[-1] if most is None else math.isqrt(most)
    facts.side = max(min(largest, CHART_SIDE) // sizing.factor * sizing.factor, facts.card_side)
    facts.profile = facts.profile.model_copy(
        update={"family": family, "factor": sizing.factor, "min_pixels": least, "max_pixels": most}
    )
    findings = [
        Finding(
            "image size", "good" if family else "bad",
            f"A visual token covers {sizing.factor} x {sizing.factor} pixels"
            + (f", as in {family}." if family else ", as in no family that p2r knows."),
            "" if family else "Images would be sized for other tokens, and boxes in pixels would be off.",
        )
    ]  # fmt: skip
    if least is not None:
        findings.append(
            Finding("smallest image", "note", f"It enlarges images below {least:,} pixels.", "The profile says so.")
        )
    if stopped:
        says = f"A square of {tried} pixels is seen as sent; a larger one failed: {stopped}"
        findings.append(Finding("largest image", "note", says, "The profile says so."))
    elif most is not None:
        findings.append(
            Finding("largest image", "note", f"It shrinks images above {most:,} pixels.", "The profile says so.")
        )
    else:
        findings.append(Finding("largest image", "good", f"A square of {tried} pixels is seen as it was sent."))
    return [*findings, *await _check_long(patient, facts, sizing, largest)]


async def _check_long(patient: Patient, facts: Measurements, sizing: Sizing, largest: int) -> list[Finding]:
    """Find out whether an image of the most pixels is left as it is when it is four times as wide as high."""
    rows = min(largest, LARGEST_SENT) // 2 // sizing.factor
    width, height = 4 * rows * sizing.factor, rows * sizing.factor
    says = f"A long image of {width} x {height} pixels"
    try:
        num = await _count_images(patient, facts, (width, height))
    except EndpointError as error:
        return [Finding("long image", "bad", f"{says} fails: {error.message}", error.hint)]
    expected = 4 * rows**2
    if num is None or num - sizing.frame_tokens == expected:
        return []
    return [
        Finding(
            "long image", "bad",
            f"{says} has {num - sizing.frame_tokens:,} visual tokens, not {expected:,}: it limits the sides of an "
            "image.",
            "Raise that limit, or state a lower `max_pixels`; prompts with such images fail.",
        )
    ]  # fmt: skip


def _explain_counts(counts: Mapping[int, int], stopped: str) -> Finding:
    """Say what is odd about the tokens of squares, by their sides."""
    so = "State `family` and `max_pixels` yourself."
    kinds = set(counts.values())
    if not counts:
        return Finding("image size", "bad", "It refuses squares of all sizes.", stopped)
    if len(kinds) == 1 and max(kinds) <= MOST_FRAME_TOKENS:
        says = f"An image adds {count_nouns(max(0, *kinds), 'token')} to a prompt: it is not seen, or not counted."
        return Finding("image size", "bad", says, "Lost, merged, and resized images cannot be noticed.")
    if len(kinds) == 1:
        says = f"Each image has {max(kinds)} tokens, whatever its size: it resizes them all."
        return Finding("image size", "bad", says, "Details would be lost: p2r knows no family that does so.")
    listed = ", ".join(f"{num} for {side} px" for side, num in counts.items())
    says = f"Squares have so many tokens: {listed}. No family that p2r knows counts so."
    if stopped:
        return Finding("image size", "bad", f"{says} A larger one failed: {stopped}", so)
    return Finding("image size", "bad", f"{says} Images may be cut into tiles.", so)


async def _count_images(patient: Patient, facts: Measurements, *sizes: tuple[int, int]) -> int | None:
    """Return the tokens that cards of these sizes add to a prompt; None where it does not count. Raises as `ask`."""
    cards = [facts.url(draw_card(list(CARD_COLORS)[place % 4], *size)) for place, size in enumerate(sizes)]
    num = await patient.count(TEXT, cards)
    return None if num is None or facts.text_tokens is None else num - facts.text_tokens


async def check_several(patient: Patient, facts: Measurements) -> list[Finding]:
    """Find out how many images it takes, and whether it sees each of them."""
    size = (facts.card_side, facts.card_side)
    one = await _count_images(patient, facts, size)
    most, refusal = 1, EndpointError("")
    seen: dict[int, int] = {}
    for num in NUM_IMAGES:
        try:
            tokens = await _count_images(patient, facts, *[size] * num)
        except EndpointError as error:
            refusal = error
            break
        most = num
        if tokens is not None:
            seen[num] = tokens
    facts.profile = facts.profile.model_copy(update={"most_images": most})
    findings: list[Finding] = []
    if most < NEEDED_IMAGES:
        says = f"It takes {count_nouns(most, 'image')} in a prompt: {refusal.message}"
        so = f"The reasoner is sent up to {NEEDED_IMAGES}"
        findings.append(Finding("images", "bad", says, f"{so}: {refusal.hint}" if refusal.hint else f"{so}."))
    if one is None or one <= MOST_FRAME_TOKENS:
        return [*findings, Finding("several images", "unknown", "Whether it sees each of several images is not known.")]
    lost = {num: tokens for num, tokens in seen.items() if tokens < num * one - one // 2}
    if lost:
        num, tokens = next(iter(lost.items()))
        return [*findings, await _explain_lost(patient, facts, num, tokens, one)]
    if most >= NEEDED_IMAGES:
        findings.append(Finding("images", "good", f"It takes {most} images in a prompt, and sees each of them."))
    return findings


async def _explain_lost(patient: Patient, facts: Measurements, num: int, tokens: int, one: int) -> Finding:
    """Tell images of one size that are merged from images that are dropped: two of other sizes are never merged."""
    size, other = (facts.card_side, facts.card_side), (facts.card_side, facts.card_side * 2)
    alone = await _count_images(patient, facts, other)
    both = await _count_images(patient, facts, size, other)
    if alone is not None and both is not None and both >= alone + one // 2:
        return Finding(
            "several images", "bad",
            f"It merges neighboring images of one size: {num} equal ones have {tokens} tokens, one has {one}.",
            "llama.cpp of June to August 2026 does (in Ollama 0.32, too): update it.",
        )  # fmt: skip
    return Finding(
        "several images", "bad",
        f"It does not see all of several images: {num} have {tokens} tokens, one has {one}.",
        "The reasoner would not see its crops: use another server or version.",
    )  # fmt: skip


async def check_order(patient: Patient, facts: Measurements) -> list[Finding]:
    """Check that several images are seen in the order in which they were sent.

    A model that guesses names some order, too. So a wrong order counts only where other colors get the same one.
    """
    num = min(len(CARD_COLORS), facts.profile.most_images or 1)
    if num < 2:
        return [Finding("order", "unknown", "It takes one image, so there is no order.")]
    sent = list(CARD_COLORS)[:num]
    named = await _name_colors(patient, facts, sent)
    if named == sent:
        return [Finding("order", "good", f"It sees {num} images in the order in which they were sent.")]
    says = f"It names {', '.join(named) or 'no colors'} for images that were sent as {', '.join(sent)}"
    if sorted(named) == sorted(sent):
        places = [sent.index(color) for color in named]
        other = [*sent[1:], sent[0]]
        if await _name_colors(patient, facts, other) == [other[place] for place in places]:
            so = "The annotated image comes first, then the crops: the answers would mix them up."
            return [Finding("order", "bad", f"{says}.", so)]
    return [Finding("order", "unknown", f"{says}, so the order in which it sees them is not known.")]


async def _name_colors(patient: Patient, facts: Measurements, colors: Sequence[str]) -> list[str]:
    """Ask for the colors of images. No two neighbors are of one size, so that none are merged."""
    sides = (facts.card_side, facts.card_side * 2)
    cards = [facts.url(draw_card(color, facts.card_side, sides[place % 2])) for place, color in enumerate(colors)]
    num = len(colors)
    reply = await patient.ask(
        f"Each of the {num} images has one color. Name the colors in the order of the images: "
        f"{', '.join(sorted(CARD_COLORS))}.",
        cards,
    )
    return list(read_colors(reply.answer))
