"""Checks of boxes: whether the model writes them, in which frame, and what changes them."""

from __future__ import annotations

from collections import Counter

from p2r.boxes import parse_boxes
from p2r.boxes.fit import iou
from p2r.boxes.parse import FRAMES
from p2r.doctor.charts import ProbeChart, draw_charts, to_url, turn_left
from p2r.doctor.findings import Finding, Measurements
from p2r.doctor.patient import Patient, RawReply
from p2r.errors import count_nouns
from p2r.models.profiles import FAMILIES
from p2r.prompts import DEFAULT_SET, load_prompt_set
from p2r.types import Box, Frame

NUM_CHARTS = 6
LEAST_FOUND = 3
_FRAMES: tuple[Frame, ...] = ("per_mille", "pixels", "unit")
"""The frames that a chart can tell apart: it is shown in its own size, so pixels are those of its file."""
FITS = 0.25
"""The least IoU of a box that means the thing on the chart."""


async def check_boxes(patient: Patient, facts: Measurements) -> list[Finding]:
    """Check that it writes boxes, and find out in which frame."""
    charts = draw_charts(NUM_CHARTS, facts.side)
    found: Counter[Frame] = Counter()
    num_written = num_swapped = 0
    for chart in charts:
        text = (await ask_where(patient, chart, facts.url(chart.image))).text
        num_written += bool(parse_boxes(text, frame="per_mille")[0] or parse_boxes(text, frame="unit")[0])
        for frame in _FRAMES:
            found[frame] += fits(text, chart.gold, frame, facts.side) >= FITS
        num_swapped += any(fits(text, swap(chart.gold), frame, facts.side) >= FITS for frame in _FRAMES)
    [(frame, num), (_, num_next), *_] = found.most_common()
    if num < LEAST_FOUND:
        written = count_nouns(num_written, "reply has", "replies have")
        says = f"It found the thing on {num} of {len(charts)} charts; {written} boxes."
        if num_swapped >= LEAST_FOUND:
            says = f"It writes y before x: {num_swapped} of {len(charts)} charts."
        so = (
            "p2r would look at the wrong places: serve a model that writes boxes as Qwen-VL does, or let another one "
            "look (`perceiver_model`)."
        )
        return [Finding("boxes", "bad", says, so)]
    if num == num_next:
        says = f"Its boxes fit two frames: {num} of {len(charts)} charts each."
        return [Finding("boxes", "unknown", says, "State `frame` yourself.")]
    facts.sees_boxes = True
    facts.profile = facts.profile.model_copy(update={"frame": frame})
    usual = FAMILIES[facts.profile.family].frame if facts.profile.family else None
    says = f"It writes boxes as {FRAMES[frame]}: {num} of {len(charts)} charts."
    if usual not in (None, frame):
        return [Finding("boxes", "note", says, f"Its family writes {FRAMES[usual]}; the profile says so.")]
    return [Finding("boxes", "good", says)]


async def check_exif(patient: Patient, facts: Measurements) -> list[Finding]:
    """Find out whether it turns photographs as their EXIF entry says."""
    if "jpeg" not in facts.profile.image_formats:
        return [Finding("EXIF", "unknown", "It does not read JPEG, the format of photographs.")]
    if not facts.sees_boxes or facts.profile.frame is None:
        return [Finding("EXIF", "unknown", "Without boxes, whether it turns photographs cannot be found out.")]
    upright, stored = 0, 0
    for chart in draw_charts(NUM_CHARTS, facts.side):
        text = (await ask_where(patient, chart, to_url(chart.image, "jpeg", is_turned=True))).text
        upright += fits(text, chart.gold, facts.profile.frame, facts.side) >= FITS
        stored += fits(text, turn_left(chart.gold), facts.profile.frame, facts.side) >= FITS
    if max(upright, stored) < LEAST_FOUND or upright == stored:
        return [Finding("EXIF", "unknown", "Whether it turns photographs as their EXIF entry says is not clear.")]
    if upright > stored:
        return [Finding("EXIF", "good", "It turns photographs as their EXIF entry says.")]
    return [
        Finding(
            "EXIF", "note", "It does not turn photographs as their EXIF entry says.",
            "p2r turns images before it sends them; other programs may show it images that lie on their side.",
        )
    ]  # fmt: skip


async def check_jpeg(patient: Patient, facts: Measurements) -> list[Finding]:
    """Find out whether JPEG changes its replies."""
    if "jpeg" not in facts.profile.image_formats or "png" not in facts.profile.image_formats:
        return [Finding("JPEG", "unknown", "It reads only one of PNG and JPEG, so they cannot be compared.")]
    if not facts.sees_boxes:
        return [Finding("JPEG", "unknown", "Without boxes, whether JPEG matters cannot be found out.")]
    if not facts.repeats:
        return [Finding("JPEG", "unknown", "Its replies change by themselves, so what JPEG changes is not known.")]
    num_other = 0
    charts = draw_charts(NUM_CHARTS, facts.side)
    for chart in charts:
        replies = [(await ask_where(patient, chart, to_url(chart.image, kind))).text for kind in ("png", "jpeg")]
        num_other += replies[0] != replies[1]
    if not num_other:
        return [Finding("JPEG", "good", f"JPEG changes none of {len(charts)} replies.")]
    return [
        Finding(
            "JPEG", "note", f"JPEG changes {num_other} of {count_nouns(len(charts), 'reply', 'replies')}.",
            "p2r sends images without loss unless `transport=jpeg` is given.",
        )
    ]  # fmt: skip


async def ask_where(patient: Patient, chart: ProbeChart, url: str) -> RawReply:
    """Ask where the thing on a chart is, as p2r asks."""
    prompts = load_prompt_set(DEFAULT_SET)
    return await patient.ask(prompts.perceiver(chart.sample), [url], system=prompts.system)


def fits(text: str, gold: Box, frame: Frame, side: int) -> float:
    """Return the best IoU of a reply's boxes, read in a frame, with where the thing is."""
    boxes, _ = parse_boxes(text, frame=frame, image_wh=(side, side))
    return max((iou(box, gold) for box in boxes), default=0.0)


def swap(box: Box) -> Box:
    """Return a box whose x and y are exchanged."""
    return Box(x1=box.y1, y1=box.x1, x2=box.y2, y2=box.x2, label=box.label)
