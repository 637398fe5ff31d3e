"""The real verl 0.9.1, in its own environment: overrides, agent loops, and both phases of nano on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from p2r.runs.training import read_training_run
from tests.fakes.verl_on_cpu import ENGINE_ARGUMENTS, ENVIRONMENT, PYTHON, SCRIPTS

pytestmark = [
    pytest.mark.very_slow,
    pytest.mark.skipif(
        not PYTHON.exists(), reason=f"verl is not in {PYTHON.parents[1]}: `make test-very-slow` puts it"
    ),
]
BROKEN = "refused the request (400): broken"
FLAGS = "--served-model-name frozen --dtype float32 --enforce-eager --max-model-len 1024"
RECIPE = """
out = "run"
schedule = [{{ role = "perceiver", steps = 2, lr = 1e-4 }}, {{ role = "reasoner", steps = 2, lr = 2e-5 }}]
model = {{ source = "nano-base", device = "cpu", dtype = "float32", gradient_checkpointing = false }}
data = {{ num_rows = 16, max_prompt_tokens = {{ perceiver = 512, reasoner = 512 }} }}
rollout = {{ group_size = 4, prompts_per_step = 4, max_new_tokens = {{ perceiver = 96, reasoner = 64 }} }}
checkpoint = {{ every = 1 }}
[partner]
kind = "endpoint"
url = "http://127.0.0.1:{port}/v1#frozen"
launch = "{serve} serve {{checkpoint}} --port {{port}} {flags}"
max_new_tokens = 64
"""


LAUNCH_ONCE = """#!/bin/sh
# Serves once; later it only waits, and nobody is answered.
echo launched >> launches.txt
[ "$(wc -l < launches.txt)" -gt 1 ] && exec sleep 3600
exec {serve} serve "$1" --port "$2" {flags}
"""


def run(*arguments: str, cwd: Path, timeout: int = 1200) -> str:
    """Run Python in verl's environment; returns what it printed. Its output is in the message when it fails."""
    command = [str(PYTHON), *arguments]
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_verl_understands_the_overrides_of_the_paper(tmp_path: Path) -> None:
    changes = ["partner.kind=endpoint", "partner.url=http://localhost:8000/v1"]
    found = json.loads(run(str(SCRIPTS / "try_overrides.py"), "qwen3_vl_4b", *changes, cwd=tmp_path).splitlines()[-1])
    perceiver, reasoner = found
    assert perceiver["path"] == "/a model/x=y"
    assert (perceiver["lr"], perceiver["betas"], perceiver["steps"]) == (1e-6, [0.9, 0.999], 156)
    assert perceiver["clip"] == [0.2, 0.2, 3.0] and perceiver["kl"] == [True, 0.01, "low_var_kl"]
    assert (perceiver["n"], perceiver["mini_batch"], perceiver["micro_batch"]) == (8, 64, 8)
    assert perceiver["lengths"] == [2560, 1024, 3584] and reasoner["lengths"] == [8704, 2048, 10752]


@pytest.mark.parametrize("kind", ["perceiver", "reasoner", "joint"])
def test_agent_loops_roll_out_as_our_trainer_does(tmp_path: Path, kind: str) -> None:
    found = json.loads(run(str(SCRIPTS / "try_loops.py"), kind, str(tmp_path), cwd=tmp_path).splitlines()[-1])
    assert found["same_tokens"]  # verl's builder makes the ids that our encoder makes
    first, second = found["outputs"]["s1"], found["outputs"]["s2"]
    rewards = [[reward for reward, _ in each] for each in first]
    if kind == "perceiver":
        assert rewards == [[1.0], [0.0], [1.0], [1.0]]  # the second names no label
        # One rollout of the second row was judged, so that its group is left out.
        assert [each.rpartition(": ")[2] for each in second] == ["broken", second[1], "broken", "broken"]
        assert second[1] == "fewer than two rollouts of its group were judged"
        assert found["dropped"] == [False, True] and found["num_asked"] == [2, 0]  # equal boxes are asked once
        assert [sum(map(bool, each)) for each in found["outcomes"]] == [0, 3]
    elif kind == "reasoner":
        assert rewards == [[1.0], [0.0], [1.0], [0.0]] and found["dead"] == [False, True]
    else:
        # The boxes and the answer to them share a reward; boxes without a label get no answer.
        assert rewards == [[1.0, 1.0], [0.0], [0.0, 0.0], [1.0, 1.0]]
        assert len(set(map(len, second))) == 1


def test_both_phases_of_nano_on_two_ranks(tmp_path: Path, unused_tcp_port: int) -> None:
    (tmp_path / "recipe.toml").write_text(
        RECIPE.format(port=unused_tcp_port, serve=PYTHON.with_name("vllm"), flags=FLAGS)
    )
    command = ["-m", "p2r", "train", "recipe.toml", "--engine", "verl", "--gpus", "2", *ENGINE_ARGUMENTS]
    run(*command, cwd=tmp_path, timeout=3600)
    done = read_training_run(tmp_path / "run")
    assert done.is_finished
    for step in done.steps:
        assert step.num_rollouts == 16 and step.num_unjudged == 0
        assert step.grad_norm is not None and step.grad_norm > 0
        assert step.sampler_diff is not None and step.sampler_diff < 1e-3
    assert done.steps[0].kl == pytest.approx(0, abs=1e-5)
    run("-m", "p2r", "eval", "needles", "--model", "run/1-reasoner", "--limit", "4", "--out", "asked", cwd=tmp_path)
    assert (tmp_path / "asked").is_dir()


def test_a_frozen_role_that_is_killed_is_launched_again_and_its_failures_end_the_job(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    """The recipe of nano, changed as docs/guides/scale.md does, with small steps."""
    script = tmp_path / "serve.sh"
    script.write_text(LAUNCH_ONCE.format(serve=PYTHON.with_name("vllm"), flags=FLAGS))
    script.chmod(0o755)
    changes = [
        "model.freeze_vision=false",
        "model.dtype=float32",
        "probe={}",
        "optimizer.scheduler=cosine",
        "partner.kind=endpoint",
        f"partner.url=http://127.0.0.1:{unused_tcp_port}/v1#frozen",
        f"partner.launch={script} {{checkpoint}} {{port}}",
        "out=run",
        'schedule=[{role="perceiver", steps=9, lr=1e-4}]',
        "data.num_rows=36",
        "data.max_prompt_tokens={perceiver=512, reasoner=512}",
        "rollout.group_size=8",
        "rollout.prompts_per_step=4",
    ]
    command = ["train", "nano", "--engine", "verl", *(part for each in changes for part in ("--set", each))]
    log, metrics = tmp_path / "log.txt", tmp_path / "run/metrics.jsonl"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "p2r", *command, *ENGINE_ARGUMENTS],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=output,
            stderr=output,
        )
        try:
            while not (metrics.is_file() and metrics.read_text()):
                assert process.poll() is None, log.read_text()[-4000:]
                time.sleep(0.2)
            os.kill(json.loads((tmp_path / "run/partner.json").read_text())["pid"], signal.SIGKILL)
            assert process.wait(1800) == 1
        finally:
            process.terminate()
            process.wait()
    said = " ".join(log.read_text().split())
    assert "rollouts could not be judged" in said and "hint: remove the cause and resume with --resume" in said
    assert (tmp_path / "launches.txt").read_text().split() == ["launched"] * 2
    steps = read_training_run(tmp_path / "run").steps
    assert steps[0].num_unjudged == 0 and len(steps) < 9  # verl does not finish a step in which everything fails
    assert not list(tmp_path.glob("run/**/*.json.tmp")) and not (tmp_path / "run/partner.json").exists()
    assert not (tmp_path / "run/verl/0-perceiver/process.json").exists()  # verl has ended
