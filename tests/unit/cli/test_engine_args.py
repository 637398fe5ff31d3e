"""--engine-arg: arguments of vLLM's engine on the command line, and where no vLLM runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from pydantic import JsonValue
from typer.testing import CliRunner

from p2r.cli.app import app
from p2r.cli.guard import Misuse
from p2r.cli.options import read_engine_args
from p2r.runs.asked import BatchSettings
from p2r.runs.evaluation import read_run
from p2r.runs.store import read_settings
from tests.fakes import stand_in_vllm

EAGER = ("--model", "vllm:nano", "--engine-arg", "enforce_eager=true")


@pytest.mark.parametrize(
    ("given", "args"),
    [
        (None, {}),
        (["enforce_eager=true"], {"enforce_eager": True}),
        (["max-model-len = 4096", "--dtype=bfloat16"], {"max_model_len": 4096, "dtype": "bfloat16"}),
        (["limit_mm_per_prompt={image = 4}"], {"limit_mm_per_prompt": {"image": 4}}),
        (["load_format=", "quantization=a=b"], {"load_format": "", "quantization": "a=b"}),
    ],
)
def test_values_are_read_as_in_toml(given: list[str] | None, args: dict[str, JsonValue]) -> None:
    assert read_engine_args(given) == args


@pytest.mark.parametrize("given", ["enforce_eager", "=true", "--=true"])
def test_what_is_no_assignment_is_refused(given: str) -> None:
    with pytest.raises(Misuse, match=r"`engine_args` is .* not NAME=VALUE") as caught:
        read_engine_args([given])
    assert "enforce_eager=true" in caught.value.hint


def test_one_that_is_given_twice_is_refused() -> None:
    with pytest.raises(Misuse, match="`engine_args` names max_model_len twice"):
        read_engine_args(["max_model_len=1", "--max-model-len=2"])


def call(arguments: Sequence[str]) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, " ".join(done.stderr.split())


@pytest.mark.parametrize("command", ["eval", "ask", "demo"])
def test_they_are_refused_for_a_model_that_vllm_does_not_run(command: str, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    inputs = {"eval": ["needles"], "ask": [str(tmp_path / "a.png"), "What?"], "demo": ["--out", str(tmp_path)]}
    code, said = call([command, *inputs[command], "--model", "nano", "--engine-arg", "enforce_eager=true"])
    assert code == 1
    assert "--engine-arg has enforce_eager for vLLM, and no model here is run by it" in said
    assert "write vllm: before the model's name, or leave --engine-arg out" in said


def test_an_evaluation_records_them_and_others_are_another_run(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "looks.json").write_text('{"perceiver": "nowhere"}')
    asked = ["eval", "needles", "--limit", "2", "--out", str(tmp_path / "runs"), "--max-error-rate", "1"]
    asked += ["--perceiver-model", f"scripted:{tmp_path / 'looks.json'}"]
    with stand_in_vllm.installed(tmp_path) as vllm:
        call([*asked, *EAGER])
        assert vllm.started[0].enforce_eager is True
        folder = tmp_path / "runs" / "needles" / "p2r"
        assert read_run(folder).settings.engine_args == {"enforce_eager": True}
        code, said = call([*asked, *EAGER, "--engine-arg", "gpu_memory_utilization=0.5"])
    assert code == 1
    assert "engine_args was {'enforce_eager': True}, now {'enforce_eager': True, 'gpu_memory_utilization': 0.5}" in said


def test_a_batch_records_them(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    with stand_in_vllm.installed(tmp_path) as vllm:
        images = [str(tmp_path / name) for name in ("a.png", "b.png")]
        call(["ask", *images, "What is it?", *EAGER, "--save", str(tmp_path / "out")])
        assert vllm.started[0].enforce_eager is True
    assert read_settings(tmp_path / "out", BatchSettings).engine_args == {"enforce_eager": True}
