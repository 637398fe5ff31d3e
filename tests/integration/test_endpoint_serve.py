"""The endpoint model against the real `transformers serve`, with a tiny random checkpoint and with the nano model."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2r.dialogue import Decoding, Prompt
from p2r.errors import EndpointError
from p2r.images.load import MemoryImage
from p2r.models.local.model import LocalModel
from p2r.models.nano import CHECKPOINT as NANO
from p2r.models.server.model import EndpointModel
from p2r.prompts import load_prompt_set
from p2r.types import Completion, Sample
from tests.fakes import stock_torchvision
from tests.fakes.examined_server import check_nano
from tests.fakes.tiny_checkpoint import make_checkpoint

NEEDED = ("fastapi", "uvicorn", "openai", "torchvision")

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED[:3]) or not stock_torchvision.HAS_TORCHVISION,
    reason=f"`transformers serve` needs {', '.join(NEEDED)}",
)

START = "import tests.fakes.stock_torchvision; from transformers.cli.transformers import main; main()"


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[str]:
    """Run the server on a free port until the block ends; yields the URL of its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", START, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--device", "cpu", "--dtype", "float32"]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        for _ in range(3000):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            if process.poll() is not None and (absent := re.findall(r"No module named '\w+'", log.read_text())):
                pytest.skip(f"`transformers serve` does not start: {absent[-1]}")
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.1)
        else:
            raise AssertionError(f"the server did not start: {log.read_text()[-3000:]}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def make_prompts(num_prompts: int = 4) -> list[Prompt]:
    return [
        Prompt("perceiver", "Be brief.", f"Question {n}: Where is it?", (noise(256, 256, n),) * (1 + n % 2), "test")
        for n in range(num_prompts)
    ]


def reply_all(
    model: EndpointModel | LocalModel, decoding: Decoding, prompts: Sequence[Prompt] | None = None
) -> list[Completion]:
    async def ask() -> list[Completion]:
        return list(await asyncio.gather(*(model.complete(prompt, decoding) for prompt in prompts or make_prompts())))

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def url(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(checkpoint, tmp_path_factory.mktemp("log") / "serve.log") as url:
        yield url


@pytest.mark.parametrize("penalty", [1.0, 1.05])
def test_replies_are_those_of_the_local_model(
    url: str, checkpoint: Path, penalty: float, caplog: pytest.LogCaptureFixture
) -> None:
    decoding = Decoding(max_new_tokens=12, repetition_penalty=penalty)
    served = EndpointModel.connect(f"{url}#{checkpoint}", retry_wait_s=0.01)
    local = LocalModel.load(checkpoint, device="cpu")

    there, here = reply_all(served, decoding), reply_all(local, decoding)

    assert [c.text for c in there] == [c.text for c in here]
    assert [c.finish_reason for c in there] == [c.finish_reason for c in here]
    assert [c.usage for c in there] == [c.usage for c in here]
    assert served.profile.frame == local.profile.frame
    assert served.dialect.sampling == "serve"
    assert served.dialect.transport == "webp"  # torchvision's decoder reads no BMP
    assert not [record for record in caplog.records if record.name.startswith("p2r")]


def test_an_unknown_model_is_told(url: str) -> None:
    served = EndpointModel.connect(f"{url}#Qwen3-VL-of-someone-else", retry_wait_s=0.01)
    with pytest.raises(EndpointError, match="has no model 'Qwen3-VL-of-someone-else'"):
        reply_all(served, Decoding(max_new_tokens=4))


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's URL with the model's name: the server itself lists only models of the local cache."""
    with serving(NANO, tmp_path_factory.mktemp("nano") / "serve.log") as url:
        yield f"{url}#{NANO}"


def test_the_nano_model_replies_alike_here_and_there(nano: str) -> None:
    """Apart from white space: the server takes thoughts out of a reply and trims what is left."""
    decoding = Decoding(max_new_tokens=48)
    texts = load_prompt_set("release")
    sample = Sample(
        "1", MemoryImage(noise(256, 256, 0)), "What pattern is on the red star?", ("dots", "lines"), "choice"
    )
    prompts = [
        Prompt("perceiver", texts.system, texts.perceiver(sample), (noise(256, 256, 1),), texts.fingerprint),
        Prompt("reasoner", texts.system, texts.reasoner(sample), (noise(256, 256, 2),) * 2, texts.fingerprint),
    ]
    there = reply_all(EndpointModel.connect(nano, retry_wait_s=0.01), decoding, prompts)
    here = reply_all(LocalModel.load(NANO, device="cpu"), decoding, prompts)
    assert ["".join(c.text.split()) for c in there] == ["".join(c.text.split()) for c in here]
    assert [c.usage.prompt_tokens for c in there] == [c.usage.prompt_tokens for c in here]


@pytest.mark.slow
def test_doctor_finds_it_healthy_and_names_what_it_lacks(nano: str) -> None:
    found = check_nano(nano, min_pixels=4096, most_images=8)
    assert found["formats"].says == "It reads png, webp, jpeg, not bmp."
    assert found["EXIF"].state == "good", found["EXIF"]
    lacks = {subject: found[subject].state for subject in ("log-probabilities", "prefix cache", "context")}
    assert lacks == {"log-probabilities": "note", "prefix cache": "unknown", "context": "unknown"}
    assert found["log-probabilities"].says == "It lists none of the likely tokens that were asked for."
