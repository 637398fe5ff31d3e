"""What there was to see of a question: the image as the model saw it, with its boxes, and its crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from p2r.dialogue import Budget
from p2r.errors import count_nouns
from p2r.evidence import Evidence, regather
from p2r.images.budget import FullImage, fit
from p2r.report.kit.embed import Embedded, embed
from p2r.report.kit.saved_image import REMARK, SavedImage
from p2r.report.kit.trace_view import find_strange_labels, view_boxes
from p2r.types import Box, ImageSource, Trace


@dataclass(frozen=True, slots=True)
class ImageDetail:
    """The sizes of the images inside a page.

    image_px, crop_px: longest side of the whole image and of a crop.
    has_before: the image and its parts are also shown at the model's budget, as one look shows them.
    quality, before_quality: of WebP.
    """

    image_px: int
    crop_px: int
    has_before: bool
    quality: int
    before_quality: int = 92


FULL_DETAIL = ImageDetail(720, 480, True, 80)


@dataclass(frozen=True, slots=True)
class BoxView:
    """A box on an image, in per cent of its width and height. `run`: index of its run; None for a gold box."""

    left: float
    top: float
    width: float
    height: float
    label: str
    color: str
    run: int | None


@dataclass(frozen=True, slots=True)
class CropView:
    """The same part of the image in one look and in the second: cut from the sized image, and at full resolution.

    before: None when the budget is not known.
    width, height: of that part, in pixels of the full image.
    """

    before: Embedded | None
    after: Embedded
    width: int
    height: int
    color: str
    label: str


@dataclass(frozen=True, slots=True)
class RunTrace:
    """The trace of one run, to be shown on the image.

    run: index of the run.
    has_crops: the crops are shown, not the boxes alone.
    own: the image that this run's model saw in place of the one that is shown; None for that one.
    """

    run: int
    name: str
    trace: Trace
    has_crops: bool = True
    own: ImageSource | None = None


@dataclass(frozen=True, slots=True)
class RunCrops:
    """The crops of one run, and its boxes in words. is_whole: the one crop is all that the model saw."""

    run: int
    name: str
    boxes_text: str
    crops: tuple[CropView, ...]
    crops_text: str
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class LabelNote:
    """A sentence about labels of a run's boxes that name nothing in the question."""

    run: int
    text: str


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """The images that there were to see. Images that are not shrunk for the page have the size that the model saw.

    seen: the whole image at the budget; None when that is not known, or would look like `full`.
    boxes: the gold ones, and those of every run that looked.
    runs: the runs whose crops are shown; the first is shown first.
    labels: notes on labels, of the runs that need one.
    remark: what the whole image is, where it is not the one that was asked about.
    """

    seen: Embedded | None
    full: Embedded
    boxes: tuple[BoxView, ...]
    has_gold: bool
    runs: tuple[RunCrops, ...]
    labels: tuple[LabelNote, ...] = ()
    remark: str = ""

    @property
    def num_bytes(self) -> int:
        """Bytes of all images as written in the page."""
        crops = [crop for run in self.runs for crop in run.crops]
        shown = [self.seen, self.full, *(crop.before for crop in crops), *(crop.after for crop in crops)]
        return sum(len(image.uri) for image in shown if image is not None)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """A decoded image, with the evidence of the runs that looked at it.

    seen: the image at the budget; None when that is not known.
    evidence: of the traces whose crops are shown, in their order; an image where the model saw another one.
    remark: see `EvidenceView`.
    """

    full_image: FullImage
    seen: Image.Image | None
    budget: Budget | None
    traces: tuple[RunTrace, ...]
    evidence: tuple[Evidence | Image.Image, ...]
    remark: str = ""


def load_evidence(source: ImageSource, traces: Sequence[RunTrace], budget: Budget | None) -> LoadedImage:
    """Load an image, and cut out again what the traces say was cut out.

    Raises:
        ImageError: the image cannot be loaded, or a trace is about another one.
    """
    full_image = FullImage(source.load())
    is_saved = isinstance(source, SavedImage)
    cut_out = source.gather if is_saved else regather
    evidence = tuple(
        each.own.load() if each.own else cut_out(full_image, each.trace) for each in traces if each.has_crops
    )
    seen = full_image.fitted(budget) if budget and not is_saved else None
    return LoadedImage(full_image, seen, budget, tuple(traces), evidence, REMARK if is_saved else "")


def view_evidence(loaded: LoadedImage, gold: Sequence[Box] = (), *, detail: ImageDetail = FULL_DETAIL) -> EvidenceView:
    """The image at the budget, with its boxes, and its crops."""
    full_image, seen = loaded.full_image, loaded.seen
    before = seen if detail.has_before and seen is not None and seen.size != full_image.size else None
    cropped = [each for each in loaded.traces if each.has_crops]
    return EvidenceView(
        seen=_embed_seen(before, detail.image_px, detail)
        if before is not None and max(before.size) <= detail.image_px
        else None,
        full=embed(full_image.image, max_side_px=detail.image_px, quality=detail.quality),
        boxes=(
            *(view_box(box, "", "", None) for box in gold),
            *(box for each in loaded.traces for box in view_run_boxes(each.trace, each.run)),
        ),
        has_gold=bool(gold),
        runs=tuple(
            _view_own(loaded, each, evidence, detail)
            if isinstance(evidence, Image.Image)
            else _view_crops(loaded, each, evidence, before, detail)
            for each, evidence in zip(cropped, loaded.evidence, strict=True)
        ),
        labels=tuple(
            LabelNote(each.run, explain_labels(labels))
            for each in loaded.traces
            if (labels := find_strange_labels(each.trace))
        ),
        remark=loaded.remark,
    )


def explain_labels(labels: Sequence[str]) -> str:
    """A sentence about labels that the question does not name: a reader might take them for a mistake of the page."""
    quoted = ", ".join(f"“{label}”" for label in labels)
    return (
        f"{quoted} {'is' if len(labels) == 1 else 'are'} not in the question: a label is the perceiver's own word, "
        "and only the box is used."
    )


def view_run_boxes(trace: Trace, run: int) -> tuple[BoxView, ...]:
    """The boxes of a trace, in the colors in which its model saw them."""
    return tuple(
        view_box(each.box, each.box.label, each.color, run) for each in view_boxes(trace.boxes, trace.evidence)
    )


def view_box(box: Box, label: str, color: str, run: int | None) -> BoxView:
    """A box in per cent, clipped to the image."""
    left, top, right, bottom = (round(min(max(value / 10, 0), 100), 2) for value in box.xyxy)
    return BoxView(left, top, round(right - left, 2), round(bottom - top, 2), label, color, run)


def _view_crops(
    loaded: LoadedImage, shown: RunTrace, evidence: Evidence, before: Image.Image | None, detail: ImageDetail
) -> RunCrops:
    cropped = [each for each in view_boxes(evidence.boxes, evidence.record) if each.crop is not None]
    num_boxes = len(evidence.boxes)
    return RunCrops(
        run=shown.run,
        name=shown.name,
        boxes_text=f"{count_nouns(num_boxes, 'box', 'boxes')}",
        crops=tuple(
            CropView(
                before=_embed_seen(_cut_sized(before, rect, loaded.full_image.size), detail.crop_px, detail)
                if before
                else None,
                after=_embed_seen(fit(crop, loaded.budget) if loaded.budget else crop, detail.crop_px, detail),
                width=crop.width,
                height=crop.height,
                color=each.color,
                label=each.box.label,
            )
            for each, crop, rect in zip(cropped, evidence.crops, evidence.record.crops, strict=True)
        ),
        crops_text=", ".join(f"{crop.width} × {crop.height}" for crop in evidence.crops),
    )


def _view_own(loaded: LoadedImage, shown: RunTrace, image: Image.Image, detail: ImageDetail) -> RunCrops:
    """The image that a run's model saw in place of the one that is shown."""
    seen = FullImage(image).fitted(loaded.budget) if loaded.budget else image
    after = _embed_seen(seen, detail.crop_px, detail)
    crop = CropView(None, after, image.width, image.height, color="var(--line)", label="")
    return RunCrops(shown.run, shown.name, "0 boxes", (crop,), f"{image.width} × {image.height}", is_whole=True)


def _cut_sized(sized: Image.Image, rect: tuple[int, int, int, int], full_wh: tuple[int, int]) -> Image.Image:
    """The part of the sized image that shows what `rect` covers in the full one; at least one pixel."""
    scale_x, scale_y = sized.width / full_wh[0], sized.height / full_wh[1]
    left, top = math.floor(rect[0] * scale_x), math.floor(rect[1] * scale_y)
    right, bottom = math.ceil(rect[2] * scale_x), math.ceil(rect[3] * scale_y)
    return sized.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _embed_seen(image: Image.Image, max_side_px: int, detail: ImageDetail) -> Embedded:
    """An image as the model saw it: with fewer losses than the whole one, where there is room."""
    quality = detail.before_quality if detail.has_before else detail.quality
    return embed(image, max_side_px=max_side_px, quality=quality)
