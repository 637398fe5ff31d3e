"""Checks of images: which formats are read, how they are sized, and whether each of several is seen, in order."""

from __future__ import annotations

import math

from p2r.doctor.charts import CARD_COLORS, draw_card, read_colors, to_url
from p2r.doctor.findings import Finding, Measurements
from p2r.doctor.patient import TEXT, Patient
from p2r.doctor.sizes import SIDES, fit_sizing
from p2r.errors import EndpointError, count_nouns
from p2r.models.profiles import FAMILIES, FamilyName

FORMATS = ("png", "bmp", "webp", "jpeg")
NUM_IMAGES = (2, 4, 8)
NEEDED_IMAGES = 4
"""The most images that the reasoner is sent."""
LARGEST_CHART = 896


async def check_formats(patient: Patient, facts: Measurements) -> list[Finding]:
    """Find out which image formats it reads."""
    card = draw_card("blue", facts.side, facts.side)
    read: list[str] = []
    reasons: list[str] = []
    for kind in FORMATS:
        try:
            await patient.count(TEXT, [to_url(card, kind)])
        except EndpointError as error:
            reasons.append(error.message)
        else:
            read.append(kind)
    facts.profile = facts.profile.model_copy(update={"image_formats": tuple(read)})
    if not read:
        raise EndpointError(reasons[0], hint="is a vision-language model served, with its vision part?")
    facts.kind = read[0]
    if read == ["jpeg"]:
        return [Finding("formats", "bad", "It reads JPEG alone, which loses detail.", "State --transport jpeg.")]
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
            num = await patient.count(TEXT, [facts.url(draw_card("blue", side, side))])
        except EndpointError as error:
            stopped = error.message
            break
        counts[side] = (num or 0) - facts.text_tokens
        if len(counts) > 3 and len(set(list(counts.values())[-3:])) == 1 and len(set(counts.values())) > 2:
            break  # the upper plateau
    sizing = fit_sizing(counts)
    if sizing is None:
        listed = ", ".join(f"{num} for {side} px" for side, num in counts.items())
        return [
            Finding(
                "image size", "bad", f"Squares have so many tokens: {listed}. No family that p2r knows counts so.",
                f"State --family and --max-pixels yourself; {stopped or 'images may be cut into tiles'}.",
            )
        ]  # fmt: skip
    area = sizing.factor**2
    family: FamilyName | None = next(
        (name for name, each in FAMILIES.items() if each.patches.factor == sizing.factor), None
    )
    least, most = (None if num is None else num * area for num in (sizing.least, sizing.most))
    largest = sizing.sides[-1] if most is None else math.isqrt(most)
    facts.side = min(largest, LARGEST_CHART) // sizing.factor * sizing.factor
    facts.image_tokens = (facts.side // sizing.factor) ** 2 + sizing.frame_tokens
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
    tried = max(counts)
    if most is not None:
        findings.append(
            Finding("largest image", "note", f"It shrinks images above {most:,} pixels.", "The profile says so.")
        )
    elif stopped:
        findings.append(
            Finding(
                "largest image", "note", f"A square of {tried} pixels is seen as sent; a larger one failed: {stopped}",
                f"State --max-pixels {tried * tried}, or raise the server's context.",
            )
        )  # fmt: skip
    else:
        findings.append(Finding("largest image", "good", f"A square of {tried} pixels is seen as it was sent."))
    return findings


async def check_several(patient: Patient, facts: Measurements) -> list[Finding]:
    """Find out how many images it takes, and whether it sees each of them."""
    cards = [facts.url(draw_card(color, facts.side, facts.side)) for color in CARD_COLORS]
    most, reason = 1, ""
    findings: list[Finding] = []
    seen: dict[int, int] = {}
    for num in NUM_IMAGES:
        try:
            tokens = await patient.count(TEXT, [cards[place % len(cards)] for place in range(num)])
        except EndpointError as error:
            reason = error.message
            break
        most = num
        if tokens is not None and facts.text_tokens is not None:
            seen[num] = tokens - facts.text_tokens
    facts.profile = facts.profile.model_copy(update={"most_images": most})
    if most < NEEDED_IMAGES:
        findings.append(
            Finding(
                "images", "bad", f"It takes {count_nouns(most, 'image')} in a prompt: {reason}",
                f"The reasoner is sent up to {NEEDED_IMAGES}: raise the server's limit "
                "(vLLM: --limit-mm-per-prompt '{\"image\": 4}').",
            )
        )  # fmt: skip
    if facts.image_tokens is None:
        return [*findings, Finding("several images", "unknown", "Whether it sees each of several images is not known.")]
    lost = {num: tokens for num, tokens in seen.items() if tokens != num * facts.image_tokens}
    if not lost:
        if most >= NEEDED_IMAGES:
            findings.append(Finding("images", "good", f"It takes {most} images in a prompt, and sees each of them."))
        return findings
    num, tokens = next(iter(lost.items()))
    unequal = await _count_unequal(patient, facts)
    if unequal:
        findings.append(
            Finding(
                "several images", "bad",
                f"It merges neighboring images of one size: {num} equal ones have {tokens} tokens, one has "
                f"{facts.image_tokens}.",
                "llama.cpp of June to August 2026 does (in Ollama 0.32, too): update it.",
            )
        )  # fmt: skip
    else:
        findings.append(
            Finding(
                "several images", "bad",
                f"It does not see all of several images: {num} have {tokens} tokens, one has {facts.image_tokens}.",
                "The reasoner would not see its crops: use another server or version.",
            )
        )  # fmt: skip
    return findings


async def _count_unequal(patient: Patient, facts: Measurements) -> bool:
    """Tell whether two images of different sizes are both seen."""
    factor = facts.profile.factor or 32
    other = facts.side - factor
    small = await patient.count(TEXT, [facts.url(draw_card("red", facts.side, other))])
    both = await patient.count(
        TEXT, [facts.url(draw_card("blue", facts.side, facts.side)), facts.url(draw_card("red", facts.side, other))]
    )
    if small is None or both is None or facts.text_tokens is None or facts.image_tokens is None:
        return False
    return both - facts.text_tokens == small - facts.text_tokens + facts.image_tokens


async def check_order(patient: Patient, facts: Measurements) -> list[Finding]:
    """Check that several images are seen in the order in which they were sent."""
    num = min(len(CARD_COLORS), facts.profile.most_images or 1)
    if num < 2:
        return [Finding("order", "unknown", "It takes one image, so there is no order.")]
    colors = list(CARD_COLORS)[:num]
    factor = facts.profile.factor or 32
    cards = [
        facts.url(draw_card(color, facts.side, facts.side - factor * (place % 2))) for place, color in enumerate(colors)
    ]
    reply = await patient.ask(
        f"Each of the {num} images has one color. Name the colors in the order of the images: "
        f"{', '.join(sorted(CARD_COLORS))}.",
        cards,
    )
    named = list(read_colors(reply.text))
    if named == colors:
        return [Finding("order", "good", f"It sees {num} images in the order in which they were sent.")]
    if sorted(named) == sorted(colors):
        return [
            Finding(
                "order", "bad", f"It names images as {', '.join(named)} that were sent as {', '.join(colors)}.",
                "The annotated image comes first, then the crops: the answers would mix them up.",
            )
        ]  # fmt: skip
    return [Finding("order", "unknown", "The model does not name the colors of images, so their order is not known.")]
