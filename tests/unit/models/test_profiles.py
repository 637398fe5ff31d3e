from __future__ import annotations

from pathlib import Path

import pytest

from p2r.dialogue import Budget
from p2r.errors import ConfigError, ModelError
from p2r.models.profiles import (
    PROFILES,
    QWEN2_5_VL,
    QWEN3_VL,
    PatchFormat,
    check_family,
    family_of,
    limit_profile,
    patch_format,
    processor_limits,
    profile_for,
)

PLACE = Path("model")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl"),
        ("qwen3_vl_8b", "qwen3_vl"),
        ("hongxingli/P2R-4B", "qwen3_vl"),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", "qwen3_vl"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl"),
        ("qwen2.5vl:7b", "qwen2_5_vl"),
        ("ChenShawn/DeepEyes-7B", "qwen2_5_vl"),
        ("Mini-o3/Mini-o3-7B-v1", "qwen2_5_vl"),
        ("Qwen25-VL-7B", "qwen2_5_vl"),
        ("qwen2.5-7b-vl", "qwen2_5_vl"),
        ("/data/ckpt/qwen25vl_grpo/step_100", "qwen2_5_vl"),
        ("Kwai-Keye/Thyme-RL", "qwen2_5_vl"),
        ("TIGER-Lab/PixelReasoner-RL-v1", "qwen2_5_vl"),
        ("NOVAglow646/Monet-7B", "qwen2_5_vl"),
        ("inclusionAI/ZwZ-7B", "qwen2_5_vl"),
        ("inclusionAI/ZwZ-8B", "qwen3_vl"),
        ("UI-TARS-1.5-7B", "qwen2_5_vl"),
        ("qwen3-4b-vl", "qwen3_vl"),
        ("/data/p2r/Qwen2.5-VL-7B", "qwen2_5_vl"),
        ("/data/deepeyes/p2r/step_100", "qwen3_vl"),
        ("UI-TARS-7B", None),
        ("monetization-8b", None),
        ("global_step_80", None),
        ("qwen-vl-max", None),
        ("Qwen/Qwen2.5-7B-Instruct", None),
        ("gpt-4o", None),
        ("Qwen/Qwen3-4B", None),
        ("Qwen/Qwen2-VL-7B-Instruct", "qwen2_vl"),
        ("qwen2vl-grpo", "qwen2_vl"),
        ("Zery/Qwen2-VL-7B_visual_rft_lisa_IoU_reward", "qwen2_vl"),
        ("Qwen/Qwen3.5-9B", "qwen3_5"),
        ("qwen3.6:35b-a3b", "qwen3_5"),
        ("qwen3_5-0.8b", "qwen3_5"),
        ("qwen3-6b", None),
        ("Qwen3.55", None),
        ("p2r-qwen2.5-vl-7b", "qwen2_5_vl"),
        ("my-p2r-qwen2-vl-2b", "qwen2_vl"),
        ("perceive-to-reason-qwen25vl", "qwen2_5_vl"),
        ("ZwZ-4B-Qwen3.5", "qwen3_5"),
        ("qwen3_5-9b.p2r", "qwen3_5"),
        ("qwen3-5b-p2r", "qwen3_vl"),
        ("p2r-qwen3-vl-2b", "qwen3_vl"),
    ],
)
def test_a_family_is_known_by_the_models_name(name: str, family: str | None) -> None:
    assert family_of(name) == family


def test_a_family_is_known_by_its_config() -> None:
    assert family_of({"model_type": "qwen3_vl"}) == "qwen3_vl"
    assert family_of({"model_type": "qwen3_vl_moe"}) == "qwen3_vl"
    assert family_of({"model_type": "qwen2_5_vl"}) == "qwen2_5_vl"
    assert family_of({"model_type": "qwen2_vl"}) == "qwen2_vl"
    assert family_of({"model_type": "qwen3_5"}) == family_of({"model_type": "qwen3_5_moe"}) == "qwen3_5"
    assert family_of({"model_type": "qwen3_5_text"}) is None
    assert family_of({"model_type": "llama"}) is None
    assert family_of({}) is None


@pytest.mark.parametrize("name", ["Mini-o3/Mini-o3-7B-v1", "TIGER-Lab/PixelReasoner-RL-v1", "/models/pixel_reasoner"])
def test_checkpoints_that_were_trained_to_write_shares_are_known(name: str) -> None:
    assert (profile_for(name).family, profile_for(name).frame) == ("qwen2_5_vl", "unit")
    assert profile_for(name, frame="pixels").frame == "pixels"
    assert profile_for(f"{name}/DeepEyes-7B").frame == "pixels"


def test_thyme_was_trained_to_write_pixels_of_the_file() -> None:
    profile = profile_for("Kwai-Keye/Thyme-RL")
    assert (profile.family, profile.frame, profile.budget.factor) == ("qwen2_5_vl", "file_pixels", 28)
    assert profile_for("Kwai-Keye/Thyme-RL", frame="pixels").frame == "pixels"
    assert profile_for("thymeleaf/Qwen2.5-VL-7B").frame == "pixels"


def test_qwen3_vl_writes_boxes_in_per_mille_and_sees_16_to_4096_tokens_of_32_pixels() -> None:
    assert PROFILES["qwen3_vl"].frame == "per_mille"
    assert PROFILES["qwen3_vl"].budget == Budget(factor=32, min_pixels=16 * 32 * 32, max_pixels=4096 * 32 * 32)


def test_qwen2_5_vl_writes_boxes_in_pixels_and_sees_as_many_tokens_of_28_pixels() -> None:
    assert PROFILES["qwen2_5_vl"].frame == "pixels"
    assert PROFILES["qwen2_5_vl"].budget == Budget(factor=28, min_pixels=16 * 28 * 28, max_pixels=4096 * 28 * 28)


@pytest.mark.parametrize(("name", "side", "least"), [("Qwen/Qwen3.5-9B", 32, 64 * 1024), ("Qwen2-VL-7B", 28, 12544)])
def test_qwen3_5_and_qwen2_vl_write_boxes_in_per_mille(name: str, side: int, least: int) -> None:
    profile = profile_for(name, for_server=True)
    assert (profile.frame, profile.budget) == (
        "per_mille",
        Budget(factor=side, min_pixels=least, max_pixels=4096 * side * side),
    )


def test_an_unknown_model_gets_qwen3_vls_profile_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    profile = profile_for("my-model")
    assert (profile.family, profile.frame, profile.budget) == ("unknown", "per_mille", PROFILES["qwen3_vl"].budget)
    assert "unknown model family of 'my-model'" in caplog.text and not profile.knows_frame


def test_a_stated_family_or_frame_is_taken_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert profile_for("my-model", family="qwen2_5_vl") == PROFILES["qwen2_5_vl"]
    assert profile_for("qwen3-vl", family="qwen2_5_vl") == PROFILES["qwen2_5_vl"]
    stated = profile_for("my-model", frame="unit")
    assert stated.knows_frame and profile_for("my-model", family="qwen2_vl").knows_frame
    assert (stated.frame, stated.stated_frame, stated.budget) == ("unit", "unit", PROFILES["qwen3_vl"].budget)
    assert profile_for("qwen2.5-vl").stated_frame is None
    assert not caplog.records


def test_the_warning_names_the_arguments(caplog: pytest.LogCaptureFixture) -> None:
    profile_for("global_step_80")
    assert len(caplog.records) == 1
    assert all(name in caplog.text for name in ("`profile`", "`family`"))


def test_an_unknown_family_or_frame_is_refused() -> None:
    with pytest.raises(ConfigError, match="no model family 'llava'") as caught:
        check_family("llava", None)
    assert "qwen2_5_vl" in caught.value.hint
    with pytest.raises(ConfigError, match="no frame 'absolute'") as caught:
        check_family("qwen3_vl", "absolute")
    assert "pixels" in caught.value.hint
    check_family(None, None)


def test_a_known_model_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert profile_for("Qwen3-VL-2B") == PROFILES["qwen3_vl"]
    assert not caplog.records


def test_max_pixels_override_the_budget() -> None:
    assert profile_for("qwen3-vl", max_pixels=256 * 1024).budget.max_pixels == 256 * 1024


def test_max_pixels_below_the_least_lower_the_least_too() -> None:
    assert profile_for("qwen3-vl", max_pixels=4 * 1024).budget.min_pixels == 4 * 1024


def test_max_pixels_below_one_token_are_refused() -> None:
    with pytest.raises(ConfigError, match="`max_pixels` 500 is less than one visual token"):
        profile_for("qwen3-vl", max_pixels=500)


def test_behind_a_server_no_image_is_smaller_than_the_published_processor_leaves_alone() -> None:
    assert profile_for("qwen3-vl", for_server=True).budget.min_pixels == 65536
    assert profile_for("qwen2.5-vl", for_server=True).budget.min_pixels == 16 * 28 * 28
    assert profile_for("qwen3-vl", max_pixels=65536, for_server=True).budget.min_pixels == 65536


def test_who_asks_for_less_than_a_processors_least_gets_no_budget_of_one_area() -> None:
    budget = profile_for("qwen3-vl", max_pixels=65535, for_server=True).budget
    assert (budget.min_pixels, budget.max_pixels) == (16 * 1024, 65535)


def test_a_checkpoint_keeps_its_own_smaller_limit() -> None:
    own = processor_limits({"size": {"shortest_edge": 4096, "longest_edge": 65536}})
    budget = limit_profile("qwen3_vl", own).budget
    assert (budget.min_pixels, budget.max_pixels) == (16 * 1024, 65536)
    assert limit_profile("qwen3_vl", own, for_server=True).budget.min_pixels == 16 * 1024
    assert limit_profile("qwen3_vl", own, max_pixels=131072).budget.max_pixels == 131072


def test_a_folder_with_a_larger_limit_keeps_the_evaluations() -> None:
    assert PROFILES["qwen3_vl"].budget.max_pixels == 4096 * 32 * 32


def test_a_larger_own_limit_does_not_raise_the_budget() -> None:
    own = processor_limits({"min_pixels": 3136, "max_pixels": 12845056})
    assert limit_profile("qwen2_5_vl", own) == PROFILES["qwen2_5_vl"]


def test_limits_are_read_from_both_spellings() -> None:
    assert processor_limits({"size": {"shortest_edge": 1, "longest_edge": 2}}) == (1, 2)
    assert processor_limits({"min_pixels": 3, "max_pixels": 4}) == (3, 4)
    assert processor_limits({"size": None}) == (None, None)


def test_patches_are_as_the_preprocessor_says() -> None:
    settings = {"patch_size": 8, "merge_size": 4, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}
    patches = patch_format(settings, "qwen3_vl", PLACE)
    assert patches == PatchFormat(8, 4, 2, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert patches.factor == 32


def test_without_settings_the_familys_patches_hold() -> None:
    assert patch_format({}, "qwen3_vl", PLACE) == QWEN3_VL
    assert patch_format({}, "qwen2_5_vl", PLACE) == QWEN2_5_VL


@pytest.mark.parametrize("settings", [{"image_mean": [0.5]}, {"patch_size": "large"}, {"image_std": None}])
def test_malformed_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="settings in model are malformed"):
        patch_format(settings, "qwen3_vl", PLACE)
