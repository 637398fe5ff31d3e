"""`p2r study` as a user runs it: killed in the middle, continued, and enlarged."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2r.models.checkpoint import fingerprint_weights
from p2r.studies.sessions import read_sessions
from tests.fakes.processes import heed_ctrl_c

pytestmark = pytest.mark.slow

STUDY = """
title = "Looking twice"
out = "{out}"
seeds = [0]

arms.start.checkpoint = "nano-base"
arms.last = {{ of = "both", phase = "0-perceiver" }}

[arms.both]
recipe = "nano"
set = [
    'schedule=[{{role="perceiver", steps=3, lr=1e-4}}]', "data.num_rows=16", "rollout.prompts_per_step=2",
    "rollout.group_size=2", "rollout.prompts_at_once=2", "optimizer.micro_batch_groups=2", "checkpoint.every=1",
    "probe.num=2", "probe.every=3",
]

[evaluations.fresh]
benchmark = "needles"
num = 6
seed = 9000

[[claims]]
name = "two looks"
says = "Two looks answer more than one."
evaluation = "fresh"
plus = [{{ arm = "start" }}]
minus = [{{ arm = "start", mode = "direct" }}]

[[claims]]
name = "training"
says = "Training raises accuracy."
evaluation = "fresh"
plus = [{{ arm = "last" }}]
minus = [{{ arm = "start" }}]
"""


def start(folder: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "p2r", "study", str(folder / "study.toml"), "--jobs", "2", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=heed_ctrl_c,
    )


def write_study(folder: Path) -> Path:
    folder.mkdir()
    (folder / "study.toml").write_text(STUDY.format(out=folder / "out"), encoding="utf-8")
    return folder


def wait_for_step(folder: Path, process: subprocess.Popen[str]) -> None:
    metrics = folder / "out/arms/both/seed-0/metrics.jsonl"
    while not metrics.exists() or metrics.read_text(encoding="utf-8").count("\n") < 1:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def find_children(folder: Path) -> list[int]:
    """The processes whose command line names the folder."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that ran without a stop."""
    folder = write_study(tmp_path_factory.mktemp("whole") / "study")
    process = start(folder)
    out, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert str(folder / "out/study.html") in out
    return folder


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize(
    ("sign", "code"),
    [
        (signal.SIGKILL, -9),
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.very_slow),  # as SIGINT, see test_cli_sample.py
    ],
)
def test_a_study_that_was_stopped_loses_nothing_and_leaves_nothing_running(
    whole: Path, tmp_path: Path, sign: signal.Signals, code: int
) -> None:
    killed = write_study(tmp_path / "killed")
    process = start(killed)
    wait_for_step(killed, process)
    process.send_signal(sign)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    if sign != signal.SIGKILL:
        assert "what is done is kept" in errors
        assert "--resume" in errors
    deadline = time.monotonic() + 40
    while find_children(killed) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert find_children(killed) == []
    again = start(killed, "--resume")
    out, errors = again.communicate(timeout=400)
    assert again.returncode == 0, errors
    assert "two looks" in out and str(killed / "out/study.html") in out
    steps = [read_steps(folder) for folder in (whole, killed)]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 3
    weights = [
        (folder / "out/arms/both/seed-0/0-perceiver/model.safetensors").read_bytes() for folder in (whole, killed)
    ]
    assert weights[0] == weights[1]
    assert read_claims(whole) == read_claims(killed)


def read_steps(folder: Path) -> list[object]:
    lines = (folder / "out/arms/both/seed-0/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "timing"} for line in lines]


def read_claims(folder: Path) -> object:
    return json.loads((folder / "out/tables.json").read_text(encoding="utf-8"))["tables"][0]


def test_the_command_beside_a_hash_repeats_an_arm_to_the_bit(whole: Path, tmp_path: Path) -> None:
    tables = json.loads((whole / "out/tables.json").read_text(encoding="utf-8"))["tables"]
    [(name, digest, command)] = next(table["rows"] for table in tables if table["title"] == "Weights")
    assert name == "both/seed-0"
    assert {each.job: each.weights for each in read_sessions(whole / "out")}[name] == digest
    program, *args = shlex.split(command)
    assert program == "p2r"
    again = [f"out={tmp_path}/again" if arg.startswith("out=") else arg for arg in args]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "p2r", *again], check=True, capture_output=True, env=environment)
    assert fingerprint_weights(tmp_path / "again/0-perceiver") == digest


def test_a_copy_without_weights_is_finished_too(whole: Path, tmp_path: Path) -> None:
    copy = write_study(tmp_path / "copy")
    left_behind = shutil.ignore_patterns("*.safetensors", "checkpoints", "rollouts.jsonl")
    shutil.copytree(whole / "out", copy / "out", ignore=left_behind)
    again = start(copy, "--resume")
    _, errors = again.communicate(timeout=100)
    assert again.returncode == 0, errors
    assert "running" not in errors
    tables = [json.loads((each / "out/tables.json").read_text(encoding="utf-8"))["tables"] for each in (whole, copy)]
    places = [str(each / "out") for each in (whole, copy)]
    assert json.dumps(tables[0]).replace(places[0], "") == json.dumps(tables[1]).replace(places[1], "")


def test_a_finished_study_takes_another_seed_without_repeating_what_is_there(whole: Path) -> None:
    second = start(whole)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "holds a study already" in errors and "--resume" in errors
    more = start(whole, "--resume", "--set", "seeds=[0, 1]")
    out, errors = more.communicate(timeout=400)
    assert more.returncode == 0, errors
    begun = re.findall(r"^(\S+): running$", errors, re.MULTILINE)
    assert sorted(begun) == ["both/seed-1", "fresh/last/seed-1"]
    assert "training" in out
