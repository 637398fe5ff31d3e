"""Evidence: crops from full resolution, lines to the pixel, and the fast way equal to the plain way to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from p2r import evidence as evidence_module
from p2r.dialogue import Budget
from p2r.errors import EmptyCropError, ImageError
from p2r.evidence import (
    BOX_COLORS,
    Evidence,
    annotate,
    annotate_fitted,
    crop_rect,
    gather,
    line_width,
    plan_crops,
    regather,
)
from p2r.images.budget import FullImage, fit
from p2r.types import Box, Completion, EvidenceRecord, Perception, ToolUse, Trace

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
IMAGE = FullImage(NOISE)


def make_box(x1: float, y1: float, x2: float, y2: float) -> Box:
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


SAIL = make_box(100, 200, 300, 400)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Anywhere in the frame, at its borders and beyond; from a point to all of it."""
    corner = st.one_of(st.floats(-300, 1300), st.sampled_from([0.0, 1000.0, 999.9]))
    side = st.one_of(st.floats(0.1, 60), st.floats(0.1, 1400))
    x1, y1 = draw(corner), draw(corner)
    return make_box(x1, y1, x1 + draw(side), y1 + draw(side))


def draw_plainly(image: Image.Image, drawn: list[Box]) -> Image.Image:
    """As the release draws: every rectangle on the whole image, coordinates as they come."""
    copy = image.copy()
    pen = ImageDraw.Draw(copy)
    for index, box in enumerate(drawn):
        color = BOX_COLORS[index % len(BOX_COLORS)]
        pen.rectangle(box.to_pixels(*image.size), outline=color, width=line_width(image.width))
    return copy


@given(st.lists(boxes(), max_size=10), st.integers(20, 900), st.integers(20, 300))
@settings(max_examples=150)
def test_annotating_draws_what_plain_drawing_draws(drawn: list[Box], width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), "white")
    assert annotate(image, drawn).tobytes() == draw_plainly(image, drawn).tobytes()


@given(
    st.lists(boxes(), min_size=1, max_size=6),
    st.tuples(st.integers(20, 1500), st.integers(20, 700)),
    st.sampled_from([32, 28]),
    st.integers(10, 700),
)
@example([make_box(0, -116, 1, -115)], (20, 26), 32, 10)  # a thin box above the frame reaches into it
@settings(max_examples=150)
def test_fast_way_equals_plain_way_to_the_bit(
    drawn: list[Box], size: tuple[int, int], factor: int, max_tokens: int
) -> None:
    noise = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    full_image = FullImage(Image.fromarray(noise))
    budget = Budget(factor=factor, min_pixels=4 * factor**2, max_pixels=max_tokens * factor**2)
    plain = fit(draw_plainly(full_image.image, drawn), budget)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence_module, "REDRAW_COST", 0)  # never fall back
        assert annotate_fitted(full_image, drawn, budget).tobytes() == plain.tobytes()
    assert annotate_fitted(full_image, drawn, budget).tobytes() == plain.tobytes()


def test_fast_way_leaves_the_perceiver_s_image_alone() -> None:
    full_image, budget = FullImage(NOISE), Budget(max_pixels=64 * 32 * 32)
    before = full_image.fitted(budget).tobytes()
    annotate_fitted(full_image, [SAIL], budget)
    assert full_image.fitted(budget).tobytes() == before
    assert full_image.image.tobytes() == NOISE.tobytes()


def test_small_lines_are_redrawn_and_many_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    full_image, budget = FullImage(NOISE.resize((1600, 1200))), Budget(max_pixels=1024 * 32 * 32)
    whole_resizes: list[object] = []

    def count(image: Image.Image, wanted: Budget) -> Image.Image:
        whole_resizes.append(wanted)
        return fit(image, wanted)

    monkeypatch.setattr(evidence_module, "fit", count)
    annotate_fitted(full_image, [make_box(100, 100, 140, 140)], budget)
    assert len(whole_resizes) == 0
    annotate_fitted(full_image, [make_box(10 * k, 10 * k, 900, 900) for k in range(40)], budget)
    assert len(whole_resizes) == 1


def test_pillow_that_computes_otherwise_is_used_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_module, "agrees_with_pillow", lambda: False)
    monkeypatch.setattr(evidence_module, "resize_window", None)
    full_image, budget = FullImage(NOISE.resize((1600, 1200))), Budget(max_pixels=1024 * 32 * 32)
    drawn = [make_box(100, 100, 140, 140)]
    assert (
        annotate_fitted(full_image, drawn, budget).tobytes() == fit(annotate(full_image.image, drawn), budget).tobytes()
    )


def test_sized_evidence_is_the_sized_images() -> None:
    budget = Budget(max_pixels=64 * 32 * 32)
    evidence = gather(IMAGE, [SAIL, make_box(500, 500, 600, 900)])
    plain = [fit(image, budget).tobytes() for image in evidence.images]
    assert [image.tobytes() for image in evidence.sized(budget)] == plain
    assert len(plain) == 3


def test_full_resolution_annotation_is_made_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    full_image = FullImage(NOISE.resize((1600, 1200)))
    evidence = gather(full_image, [make_box(100, 100, 140, 140)])
    monkeypatch.setattr(evidence_module, "annotate", None)
    assert len(evidence.sized(Budget(max_pixels=1024 * 32 * 32))) == 2
    monkeypatch.undo()
    assert evidence.annotated is evidence.annotated
    assert evidence.annotated is not None
    assert evidence.annotated.size == (1600, 1200)


def test_no_boxes_give_the_image_alone() -> None:
    evidence = gather(IMAGE, ())
    assert evidence.annotated is None
    assert evidence.images == (NOISE,)
    assert evidence.sized(Budget()) == (IMAGE.fitted(Budget()),)
    assert not evidence.record.annotated


def test_all_boxes_are_drawn_and_the_first_three_cropped() -> None:
    drawn = [make_box(100 * k, 0, 100 * k + 50, 100) for k in range(5)]
    evidence = gather(IMAGE, drawn)
    assert evidence.boxes == tuple(drawn)
    assert len(evidence.crops) == len(evidence.record.crops) == 3
    assert evidence.annotated is not None
    assert evidence.annotated.getpixel((drawn[4].to_pixels(400, 300)[0], 5)) == (255, 165, 0)


def test_crops_are_cut_from_the_original_without_lines() -> None:
    evidence = gather(IMAGE, [SAIL])
    assert evidence.record.crops == ((0, 30, 160, 150),)
    assert evidence.crops[0].tobytes() == NOISE.crop((0, 30, 160, 150)).tobytes()


def test_box_outside_the_image_is_skipped_and_the_others_stay() -> None:
    evidence = gather(IMAGE, [make_box(1200, 100, 1300, 200), SAIL])
    assert evidence.record.skipped == (0,)
    assert len(evidence.crops) == 1
    assert evidence.record.annotated


def test_only_boxes_outside_give_no_evidence() -> None:
    evidence = gather(IMAGE, [make_box(1200, 100, 1300, 200)])
    assert evidence.annotated is None
    assert evidence.crops == ()
    assert evidence.record.skipped == (0,)


def test_crop_too_thin_for_any_model_is_skipped() -> None:
    thin = FullImage(Image.new("RGB", (40, 7000)))
    evidence = gather(thin, [make_box(0, 0, 1, 1000), make_box(0, 0, 1000, 500)])
    assert evidence.record.skipped == (0,)
    assert [image.size[0] % 32 for image in evidence.sized(Budget())] == [0, 0]


def test_crop_margin_is_a_tenth_of_the_image_up_to_600_pixels() -> None:
    assert crop_rect(make_box(500, 500, 510, 510), 1000, 1000) == (400, 400, 610, 610)
    assert crop_rect(make_box(500, 500, 510, 510), 10_000, 10_000) == (4400, 4400, 5700, 5700)


def test_margins_may_differ_by_axis() -> None:
    assert crop_rect(make_box(500, 500, 600, 600), 1000, 1000, margin=(0, 0.2)) == (500, 300, 600, 800)


def test_crop_without_a_pixel_is_an_error_with_the_box() -> None:
    with pytest.raises(EmptyCropError, match=r"\(1200.0, 100.0, 1300.0, 200.0\) covers no pixel of a 100 x 80"):
        crop_rect(make_box(1200, 100, 1300, 200), 100, 80)


@pytest.mark.parametrize(("width", "line_px"), [(100, 3), (1333, 3), (1334, 4), (4000, 12)])
def test_line_is_three_per_mille_of_the_width_and_at_least_three(width: int, line_px: int) -> None:
    assert line_width(width) == line_px


def test_colors_come_in_turn_and_start_again() -> None:
    image = Image.new("RGB", (1000, 100), "white")
    annotated = annotate(image, [make_box(100 * k, 100, 100 * k + 50, 900) for k in range(9)])
    seen = [annotated.getpixel((100 * k, 50)) for k in range(9)]
    assert len(set(seen)) == 8
    assert seen[0] == seen[8] == (255, 0, 0)


def test_boxes_far_out_of_frame_are_drawn_in_no_time() -> None:
    far = [make_box(-1e12, -1e12, 1e12, 1e12), make_box(1e12, 1e12, 2e12, 2e12), make_box(-1e12, 500, 500, 1e12)]
    annotated = annotate(NOISE, far)
    assert annotated.size == NOISE.size
    assert annotated.getpixel((200 - 1, 299)) == (0, 0, 255)


def test_whole_image_may_be_a_crop_beyond_pillow_s_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    evidence = gather(IMAGE, [make_box(0, 0, 999, 999)])
    assert isinstance(evidence, Evidence)
    assert evidence.crops[0].size == (400, 300)


def make_trace(record: EvidenceRecord | None, boxes: tuple[Box, ...], shown: tuple[Box, ...] = ()) -> Trace:
    """A trace with a perceiver's boxes, and with those that a tool showed the reasoner."""
    chat = Completion(text="", finish_reason="stop", model="m", tool_use=ToolUse(boxes=shown) if shown else None)
    return Trace(
        sample_id="a",
        image="a.png",
        question="?",
        perception=Perception(source="model:m", boxes=boxes),
        evidence=record,
        reasoning=chat,
    )


def test_evidence_is_gathered_again_by_the_rectangles_that_a_trace_holds() -> None:
    record = EvidenceRecord(image_wh=IMAGE.size, crops=((1, 2, 31, 22),), skipped=(0,), annotated=True)
    evidence = regather(IMAGE, make_trace(record, (SAIL, SAIL)))
    assert [crop.size for crop in evidence.crops] == [(30, 20)]
    assert evidence.crops[0].tobytes() == IMAGE.image.crop((1, 2, 31, 22)).tobytes()
    assert evidence.record == record and evidence.annotated is not None


def test_without_a_record_evidence_is_gathered_from_the_boxes() -> None:
    assert regather(IMAGE, make_trace(None, (SAIL,))).record == plan_crops(IMAGE.size, [SAIL])
    nothing = plan_crops(IMAGE.size, ())
    assert regather(IMAGE, make_trace(nothing, (), (SAIL,))).record == plan_crops(IMAGE.size, [SAIL])
    assert regather(IMAGE, make_trace(nothing, ())).record == nothing


def test_a_trace_is_not_shown_on_an_image_of_another_size() -> None:
    record = plan_crops((7, 5), ())
    with pytest.raises(ImageError, match="but the trace is about one of 7 x 5"):
        regather(IMAGE, make_trace(record, ()))
