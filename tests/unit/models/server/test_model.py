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
