"""Two processes whose rollouts one server samples, with a stand-in for vLLM. test_vllm_rollouts.py has the real one."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.fakes import stand_in_vllm, stand_in_vllm_server
from tests.fakes.tiny_training import make_recipe, read_metrics

pytestmark = pytest.mark.slow

LONGEST_WAIT_S = 900.0


def train(place: Path, *options: str, deaths: str = "") -> list[Mapping[str, object]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with stand_in_vllm.installed(place):
        (place / "site" / "deaths").write_text(deaths)
    script = shlex.join([sys.executable, stand_in_vllm_server.__file__, str(place / "site")])
    rollout = {"engine": "vllm", "url": url, "launch": f"{script} {{checkpoint}} {{port}}"}
    told = [f"rollout.{name}={json.dumps(value)}" for name, value in rollout.items()]
    steps = 'schedule=[{role="perceiver", steps=2, lr=1e-4}]'
    recipe = make_recipe(place / "run", [*told, steps, "probe.num=1", 'model.dtype="float32"'])
    path = place / "recipe.json"
    path.write_text(recipe.model_dump_json())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "p2r", "train", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_WAIT_S, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    with pytest.raises(OSError, match="refused"), socket.socket() as asked:
        asked.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    return read_metrics(place / "run")


def test_two_processes_ask_one_server_which_may_die(tmp_path: Path) -> None:
    alone = train(tmp_path / "alone")
    # The first dies between the two replies of the first step, and the second before it gets the second step's weights.
    pair = train(tmp_path / "pair", "--processes", "2", deaths="2 3")
    assert (tmp_path / "pair" / "run" / "rollout.log").read_text().count("EngineCore encountered an issue") == 2
    assert len(alone) == len(pair) == 2
    for one, two in zip(alone, pair, strict=True):
        assert {name: pytest.approx(value) if isinstance(value, float) else value for name, value in two.items()} == one
