"""A model behind a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.models import nano
from p2r.models.server.model import EndpointModel

NANO = Path(nano.__file__).parent / "checkpoint"


def test_a_served_folder_has_the_profile_of_its_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    profile = EndpointModel.connect(f"http://127.0.0.1:9/v1#{NANO}").profile
    assert profile.family == "qwen3_vl"
    assert profile.budget.max_pixels < 4096 * 32 * 32
    assert caplog.records == []


def test_a_served_folder_of_an_unknown_family_gets_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    assert EndpointModel.connect(f"http://127.0.0.1:9/v1#{tmp_path}").profile.family == "unknown"
    assert "unknown model family" in caplog.text


def test_config_json_knows_better_than_the_name_also_without_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "qwen3-vl-tuned"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    assert EndpointModel.connect(f"http://127.0.0.1:9/v1#{folder}").profile.family == "qwen2_5_vl"
    assert not caplog.records


def test_a_hub_id_is_known_by_the_config_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')

    def find(repo: str, file: str) -> str | None:
        return str(tmp_path / file) if repo == "me/step-80" else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", find)
    assert EndpointModel.connect("http://127.0.0.1:9/v1#me/step-80").profile.frame == "pixels"
    assert EndpointModel.connect("http://127.0.0.1:9/v1#me/step-81").profile.family == "unknown"


def test_family_and_frame_can_be_stated(caplog: pytest.LogCaptureFixture) -> None:
    url = "http://127.0.0.1:9/v1#global_step_80"
    assert EndpointModel.connect(url, family="qwen2_5_vl").profile.frame == "pixels"
    stated = EndpointModel.connect(url, frame="unit").profile
    assert (stated.frame, stated.stated_frame) == ("unit", "unit")
    assert not caplog.records


def test_a_stated_family_does_not_overrule_a_config(caplog: pytest.LogCaptureFixture) -> None:
    url = f"http://127.0.0.1:9/v1#{nano.CHECKPOINT}"
    assert EndpointModel.connect(url, family="qwen2_5_vl").profile.family == "qwen3_vl"
    assert "the stated family qwen2_5_vl is passed over" in caplog.text
    caplog.clear()
    assert EndpointModel.connect(url, family="qwen3_vl", frame="pixels").profile.frame == "pixels"
    assert not caplog.records
