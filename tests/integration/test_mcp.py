"""`p2r mcp` as a program, asked by the official client: on stdin and stdout, and over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from PIL import Image

from p2r import P2R
from p2r.benchmarks.needles import Needles
from tests.fakes.agents import read_fields, read_images, read_words
from tests.fakes.served import ANSWER, BOX

SAMPLES = Needles(seed=5, num_samples=1)
COMMAND = [sys.executable, "-m", "p2r", "mcp"]


@pytest.mark.slow
async def test_an_agent_gets_the_answers_that_p2r_gives(tmp_path: Path) -> None:
    offline = P2R("nano")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "outside.png")
    server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], cwd=tmp_path / "images", env=dict(os.environ))
    with (tmp_path / "log").open("w") as log:
        async with Client(stdio_client(server, errlog=log)) as client:
            for number, sample in enumerate(SAMPLES):
                image = sample.image.load()
                image.save(tmp_path / "images" / f"{number}.png")
                trace = offline.ask_sample(sample)
                assert trace.answer is not None and trace.reasoning is not None and trace.evidence is not None
                asked = {"image": f"{number}.png", "question": sample.question}
                result = await client.call_tool("ask", asked | {"options": sample.options})
                found = read_fields(result)
                assert (found["answer"], found["reply"]) == (str(trace.answer), trace.reasoning.text)
                assert [tuple(box["pixels"]) for box in found["boxes"]] == list(trace.boxes_px)
                assert [tuple(crop["pixels"]) for crop in found["crops"]] == list(trace.evidence.crops)
                for shown, rect in zip(read_images(result), trace.evidence.crops, strict=True):
                    assert shown.convert("RGB").tobytes() == image.crop(rect).tobytes()
                assert read_fields(await client.call_tool("look", asked))["boxes"] == found["boxes"]
            refused = await client.call_tool("crop", {"image": "../outside.png", "box": [0, 0, 9, 9]})
            assert (refused.is_error, "not a file that this server reads" in read_words(refused)) == (True, True)
            assert str(tmp_path / "images") in read_words(refused)  # what an agent may name instead
    said = (tmp_path / "log").read_text()
    assert "look, ask and crop wait for an agent on stdin; nano is being loaded" in said
    assert "nano is loaded" in said
    assert "Traceback" not in said


def test_stdout_is_the_protocol_alone_and_the_command_ends_with_stdin(tmp_path: Path) -> None:
    script = tmp_path / "replies.json"
    script.write_text(json.dumps({"perceiver": BOX, "reasoner": ANSWER}))
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    done = subprocess.run(
        [*COMMAND, "--model", f"scripted:{script}"],
        input=f"no JSON\n{json.dumps(listing | {'params': {'_meta': meta}})}\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [tool["name"] for tool in replies[-1]["result"]["tools"]] == ["look", "ask", "crop"]


def test_a_signal_ends_it_while_stdin_is_open(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--model", "scripted:/nowhere.json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(2)]
        assert "the replies in /nowhere.json cannot be read" in said[1]  # and it goes on: an agent is told, too
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert "Traceback" not in process.stderr.read()


async def test_it_serves_over_http_and_ends_on_a_signal(tmp_path: Path) -> None:
    script = tmp_path / "replies.json"
    script.write_text(json.dumps({"perceiver": BOX, "reasoner": ANSWER}))
    Image.new("RGB", (640, 320)).save(tmp_path / "boat.png")
    with subprocess.Popen(
        [*COMMAND, "--http", "--port", "0", "--model", f"scripted:{script}", "--image-folder", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/mcp", process.stderr.readline())
        assert found
        async with Client(found[0]) as client:
            result = await client.call_tool("ask", {"image": "boat.png", "question": "What is on the sail?"})
            assert read_fields(result)["answer"] == "a star"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        said = process.stderr.read()
    assert re.search(r"POST /mcp 200 ", said)
    assert str(script) not in said
    assert "Traceback" not in said
