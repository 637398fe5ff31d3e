"""Rollouts that a launched server samples, with a stand-in for vLLM. test_vllm_rollouts.py has the real one."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.fakes import stand_in_vllm, stand_in_vllm_server
from tests.fakes.tiny_training import make_recipe, read_metrics, run

pytestmark = pytest.mark.slow

LONGEST_WAIT_S = 900.0


def make_settings(place: Path, deaths: str = "") -> list[str]:
    """Settings for a server that is launched on a free port. deaths: how many calls each start lives for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with stand_in_vllm.installed(place):
        (place / "site" / "deaths").write_text(deaths)
    script = shlex.join([sys.executable, stand_in_vllm_server.__file__, str(place / "site")])
    rollout = {"engine": "vllm", "url": url, "launch": f"{script} {{checkpoint}} {{port}}"}
    told = [f"rollout.{name}={json.dumps(value)}" for name, value in rollout.items()]
    return [*told, 'schedule=[{role="perceiver", steps=2, lr=1e-4}]', "probe.num=1", "checkpoint.every=1"]


def test_two_processes_ask_one_server_which_may_die_and_a_run_is_resumed(tmp_path: Path) -> None:
    run(make_recipe(tmp_path / "alone" / "run", make_settings(tmp_path / "alone")))
    alone = read_metrics(tmp_path / "alone" / "run")
    assert len(alone) == 2

    resumed = make_recipe(tmp_path / "resumed" / "run", make_settings(tmp_path / "resumed"))
    with pytest.raises(KeyError):
        run(resumed, stop_after=1)
    run(resumed, resume=True)
    assert read_metrics(resumed.out) == alone

    # The first dies between the two replies of the first step, and the second before it gets the second step's weights.
    recipe = make_recipe(tmp_path / "pair" / "run", make_settings(tmp_path / "pair", deaths="2 3"))
    (tmp_path / "pair.json").write_text(recipe.model_dump_json())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "p2r", "train", str(tmp_path / "pair.json"), "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_WAIT_S, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert (recipe.out / "rollout.log").read_text().count("EngineCore encountered an issue") == 2
    for one, two in zip(alone, read_metrics(recipe.out), strict=True):
        assert {name: pytest.approx(value) if isinstance(value, float) else value for name, value in two.items()} == one

    for each in (resumed, recipe):
        with pytest.raises(OSError, match="refused"), socket.socket() as asked:
            asked.connect(("127.0.0.1", int(str(each.rollout.url).rpartition(":")[2])))
