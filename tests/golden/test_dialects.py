"""Calls are read, and parts cut out and sized, as the authors' own scripts do it. The first row names the source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from PIL import Image

from p2r.boxes import mean_best_iou
from p2r.dialogue import Budget
from p2r.errors import ToolError
from p2r.images.budget import round_to_budget
from p2r.programs.repairs import clamp_box, is_refused
from p2r.programs.run_programs import run_programs
from p2r.roles.base import WHOLE
from p2r.roles.dialects import DIALECTS, deepeyes, mini_o3, pixel_reasoner, thyme
from p2r.roles.dialects.base import Dialect, View, enlarge, read_corners
from p2r.types import Box
from tests.golden.rows import read_rows

RELEASED = {name: DIALECTS[f"{name}:released"]() for name in ("deepeyes", "mini-o3", "pixel-reasoner", "thyme")}
NOT_OFFERED = {"sympy"}
"""Programs that the authors run and p2r refuses."""


def rows_of(name: str) -> list[Any]:
    return [pytest.param(row, id=f"{number}") for number, row in enumerate(read_rows(f"baselines/{name}")[1:], 2)]


def take(dialect: Dialect, reply: str, sizes_wh: Sequence[Sequence[int]]) -> View | ToolError | None:
    """What a reply is shown in a chat of images of these sizes; None where it ends the chat."""
    calls = dialect.read_calls(reply)
    if not calls:
        return None
    views = [View(Image.new("RGB", (width, height), "gray"), WHOLE) for width, height in sizes_wh]
    try:
        (call,) = calls
        found = dialect.cut(call, views)
    except ToolError as error:
        return error
    assert isinstance(found, View)
    return found


def run(code: str, image_wh: Sequence[int]) -> list[dict[str, Any]] | str:
    """What Thyme's program shows, as the rows write it, or why it shows nothing."""
    image = Image.effect_noise((image_wh[0], image_wh[1]), 50).convert("RGB")
    found = run_programs([code], image, thyme.PATH, as_released=True)
    return found.error or [
        {"text": made} if isinstance(made, str) else {"image_wh": [*made.size]} for made in found.shown
    ]


def show_wh(view: object) -> list[int]:
    assert isinstance(view, View), view
    return [*view.seen.size]


@pytest.mark.parametrize("row", rows_of("deepeyes_eval"))
def test_deepeyes_evaluation(row: dict[str, Any]) -> None:
    dialect, out = RELEASED["deepeyes"], row["out"]
    found = take(dialect, row["reply"], [row["image_wh"]])
    if "shown_wh" in out:
        assert show_wh(found) == out["shown_wh"]
    elif "sample_ends_with" in out:
        assert isinstance(found, ToolError)
        assert dialect.errors_end
    else:
        assert found is None
        assert dialect.asks_again(row["reply"]) == out.get("asked_again_unchanged", False)


@pytest.mark.parametrize("row", rows_of("deepeyes_env"))
def test_deepeyes_training(row: dict[str, Any]) -> None:
    found = take(DIALECTS["deepeyes"](), row["reply"], [row["image_wh"]])
    if row["out"]["done"]:
        assert found is None
    elif "error" in row["out"]:
        assert isinstance(found, ToolError)
    else:
        assert isinstance(found, View)
        width, height = row["out"]["shown_wh"]
        assert found.seen.size == enlarge(Image.new("RGB", (width, height)), deepeyes.SHOWN).size


@pytest.mark.parametrize("row", rows_of("mini_o3_turn"))
def test_mini_o3(row: dict[str, Any]) -> None:
    dialect, out = RELEASED["mini-o3"], row["out"]
    found = take(dialect, row["reply"], row["observations_wh"])
    if "crop_px" in out:
        assert isinstance(found, View)
        assert [*found.image.size] == out["crop_wh"]
        assert show_wh(found) == out["shown_wh"]
    elif "error" in out:
        assert isinstance(found, ToolError)
    else:
        assert found is None


@pytest.mark.parametrize("row", rows_of("mini_o3_resize"))
def test_mini_o3_sizes(row: dict[str, Any]) -> None:
    image = Image.new("RGB", tuple(row["image_wh"]))
    if isinstance(row["out_wh"], str):
        with pytest.raises(ToolError):
            mini_o3.size_image(image)
    else:
        assert [*mini_o3.size_image(image).size] == row["out_wh"]


@pytest.mark.parametrize("row", rows_of("pixel_reasoner_turn"))
def test_pixel_reasoner(row: dict[str, Any]) -> None:
    out = row["out"]
    found = take(RELEASED["pixel-reasoner"], row["reply"], row["images_wh"])
    if "shown_wh" in out:
        assert show_wh(found) == out["shown_wh"]
    elif "error" in out:
        assert isinstance(found, ToolError)
    else:
        assert found is None


@pytest.mark.parametrize("row", rows_of("pixel_reasoner_turn"))
def test_pixel_reasoner_regions(row: dict[str, Any]) -> None:
    if "crop_wh" not in row["out"]:
        return
    call, *_ = RELEASED["pixel-reasoner"].read_calls(row["reply"])
    size = row["images_wh"][cast(int, call.fields["target_image"]) - 1]
    corners = read_corners(call.fields["bbox_2d"])
    left, top, right, bottom = pixel_reasoner.find_region(corners, tuple(size), as_released=True)
    assert [right - left, bottom - top] == row["out"]["crop_wh"]


@pytest.mark.parametrize("row", rows_of("pixel_reasoner_zoom_in"))
def test_pixel_reasoners_later_tool(row: dict[str, Any]) -> None:
    arguments = {"name": pixel_reasoner.CROP, "arguments": {"bbox_2d": row["bbox_2d"], "target_image": 1}}
    found = take(DIALECTS["pixel-reasoner"](), f"<tool_call>{json.dumps(arguments)}</tool_call>", [row["image_wh"]])
    if "error" in row["out"]:
        assert isinstance(found, ToolError)
        return
    assert isinstance(found, View)
    left, top, right, bottom = pixel_reasoner.find_region(row["bbox_2d"], tuple(row["image_wh"]))
    assert [right - left, bottom - top] == row["out"]["crop_wh"]


@pytest.mark.parametrize("row", rows_of("smart_resize28"))
def test_sizes_in_whole_patches(row: dict[str, Any]) -> None:
    budget = Budget(factor=row["factor"], min_pixels=row["min_pixels"], max_pixels=row["max_pixels"])
    assert [*round_to_budget(row["height"], row["width"], budget, least=budget.factor)] == row["out_hw"]


@pytest.mark.parametrize("row", [row for row in read_rows("peers_treevgr_treebench")[1:] if "out_iou" in row])
def test_treevgr_looks(row: dict[str, Any]) -> None:
    image = Image.new("RGB", (1000, 1000))
    looks = DIALECTS["treevgr:released"]().read_looks(row["reply"], View(image, WHOLE, image.resize((2000, 2000))))
    gold = [Box(x1=x1, y1=y1, x2=x2, y2=y2) for x1, y1, x2, y2 in row["gold_xyxy_px"]]
    assert mean_best_iou(looks, gold) == pytest.approx(row["out_iou"], abs=1e-12)


@pytest.mark.parametrize("row", rows_of("thyme_code_block"))
def test_thyme_reads_programs(row: dict[str, Any]) -> None:
    calls = RELEASED["thyme"].read_calls(row["reply"])
    assert [call.arguments for call in calls] == ([] if row["out"] is None else [row["out"]])


@pytest.mark.parametrize("row", rows_of("thyme_clamp"))
def test_thyme_clamps_boxes(row: dict[str, Any]) -> None:
    assert clamp_box(row["box"], row["image_wh"]) == row["out"]


@pytest.mark.parametrize("row", rows_of("thyme_refused"))
def test_thyme_refuses_programs_by_their_text(row: dict[str, Any]) -> None:
    """What the authors' check lets pass here, would then run under `exec`; p2r refuses it while it walks."""
    assert is_refused(row["code"]) == row["refused"]
    assert isinstance(run(row["code"], (64, 64)), str)


@pytest.mark.parametrize("row", rows_of("thyme_sandbox"))
def test_thyme_runs_programs(row: dict[str, Any]) -> None:
    code = row["code"].replace("<IN>", thyme.PATH).replace("<WORK>", "/home/user")
    found = run(code, row["image_wh"])
    if not row["out"]["shown"] or row["case"] in NOT_OFFERED:
        assert isinstance(found, str)
    else:
        assert found == row["out"]["shown"]
