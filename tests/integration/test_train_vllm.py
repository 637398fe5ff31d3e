"""A trainer whose frozen role the real vLLM plays, launched as a server or in its process: metrics as with a copy."""

from __future__ import annotations

import json
import shlex
import socket
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.fakes import vllm_guest
from tests.fakes.tiny_training import make_recipe, read_metrics, run

pytestmark = pytest.mark.slow

STEPS = [
    'schedule=[{role="perceiver", steps=1, lr=1e-4}, {role="reasoner", steps=1, lr=1e-4}]',
    'model.dtype="float32"',
    "probe.every=1",
]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The metrics with a copy of the weights as frozen role."""
    vllm_guest.require()
    out = tmp_path_factory.mktemp("trained") / "local"
    run(make_recipe(out, STEPS))
    return [*read_metrics(out)]


@pytest.mark.very_slow
def test_a_launched_server_gives_the_metrics_of_a_copy(tmp_path: Path, local: list[object]) -> None:
    """Launching a server is also tested in test_partner.py, with another; its replies in test_vllm_served.py."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = [f"{name}={value}" for name, value in vllm_guest.environment().items()]
    served = vllm_guest.serve_command("{checkpoint}", "{port}", "--served-model-name", "frozen")
    launch = shlex.join(["env", *variables, *served, "--allowed-local-media-path", "/"])
    partner = {
        "kind": "endpoint",
        "url": f"http://127.0.0.1:{port}/v1#frozen",
        "launch": launch,
        "transport": "file",
        "max_new_tokens": 32,
    }
    run(make_recipe(tmp_path / "run", [*STEPS, f"partner={write_toml(partner)}"]))
    assert read_metrics(tmp_path / "run") == local
    with pytest.raises(OSError, match="refused"), socket.socket() as asked:
        asked.connect(("127.0.0.1", port))


def test_an_engine_in_the_trainer_gives_the_metrics_of_a_copy(tmp_path: Path, local: list[object]) -> None:
    executor = f"engine.distributed_executor_backend='{vllm_guest.ONE_PROCESS}'"
    engine = ["engine.enforce_eager=true", "engine.max_model_len=2048", executor]
    one_phase = 'schedule=[{role="perceiver", steps=1, lr=1e-4}]'
    changes = [*STEPS, one_phase, 'partner={kind="vllm", max_new_tokens=32}', *engine]
    recipe = make_recipe(tmp_path / "run", changes)
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    done = vllm_guest.run("-m", "p2r", "train", "recipe.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_metrics(tmp_path / "run") == local[:1]
    assert "Traceback" not in done.stderr


def write_toml(table: dict[str, object]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in table.items()) + "}"
