from __future__ import annotations

from pathlib import Path

import pytest

from p2r.runs.training import TrainingRun
from tests.fakes.training_runs import make_run


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    return make_run(tmp_path / "runs" / "seed0")
