"""The real vLLM in the process that asks: the local model's replies, a clean stdout, and a clean end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

import p2r
from p2r.benchmarks import Benchmark, Facts
from p2r.benchmarks.needles import Needles
from p2r.dialogue import Decoding
from p2r.models.local.model import LocalModel
from p2r.models.nano import CHECKPOINT
from p2r.models.vllm.sockets import NOTICE_S
from p2r.runs.evaluation import read_run
from p2r.types import Completion, Trace
from tests.fakes import vllm_guest
from tests.fakes.replies import ask_about, begin, facts_of_traces, noise, reply, reply_all

pytestmark = pytest.mark.slow

VLLM = ("--model", "vllm:nano", "--dtype", "float32", "--engine-arg", "enforce_eager=true")
BAD_ENDS = ("Traceback", "EngineDeadError", "force killing", "Exception ignored", "leaked")


@pytest.fixture(autouse=True)
def vllm_is_there() -> None:
    vllm_guest.require()


def p2r_command(here: Path, *arguments: str) -> tuple[str, str]:
    """What the command prints and says, when all goes well."""
    done = vllm_guest.run("-m", "p2r", *arguments, cwd=here)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


def test_twenty_needles_are_answered_word_for_word_and_the_end_is_clean(tmp_path: Path) -> None:
    arguments = ("eval", "needles", "--limit", "20", "--out", "runs", *VLLM, "--engine-arg", "max-model-len=2048")
    executor = ("--engine-arg", f"distributed-executor-backend={vllm_guest.ONE_PROCESS}")
    stdout, stderr = p2r_command(tmp_path, *arguments, *executor)
    there = read_run(tmp_path / "runs" / "needles" / "p2r")
    args = {"enforce_eager": True, "max_model_len": 2048, "distributed_executor_backend": vllm_guest.ONE_PROCESS}
    assert there.settings.engine_args == args
    local = LocalModel.load(CHECKPOINT, device="cpu", dtype="float32")
    needles = Benchmark(list(Needles(seed=0, num_samples=20)), Facts("needles"))
    assert facts_of_traces(p2r.evaluate(needles, local, mode="p2r").traces) == facts_of_traces(there.traces)
    assert "INFO" not in stdout
    assert not [words for words in BAD_ENDS if words in stderr], stderr[-3000:]


def test_a_trace_is_all_that_is_printed(tmp_path: Path) -> None:
    noise(512, 512, 0).save(tmp_path / "noise.png")
    stdout, stderr = p2r_command(tmp_path, "ask", "noise.png", "Where is the red star?", *VLLM, "--json")
    assert len(stdout.splitlines()) == 1
    assert Trace.model_validate_json(stdout).reasoning is not None
    assert not [words for words in BAD_ENDS if words in stderr], stderr[-3000:]


SCRIPT = """
import asyncio, gc, json, os, signal, subprocess
import zmq.asyncio
from p2r.dialogue import Decoding
from p2r.errors import P2RError
from p2r.models.load import load_model
from p2r.models.vllm import sockets
from tests.fakes.replies import BRIEF, ask_about, begin, noise, reply, reply_all

BEGUN = [begin(ask_about(noise(256, 256, 0)), '[{"bbox_2d": '), begin(ask_about(), "Look: ", noise(256, 256, 0), "[2")]
STOPPING = Decoding(max_new_tokens=24, stop=("]",))

def tell(reply):
    return [reply.text, reply.finish_reason, reply.usage.model_dump(mode="json")]

def refuse(**more):
    try:
        reply_all(model, [ask_about(noise(256, 256, 0), **more)])
    except P2RError as error:
        return [error.message, error.hint]

def draw(seed):
    return Decoding(max_new_tokens=24, temperature=1.5, seed=seed)

def listen():
    told = []
    listening = model.stream(ask_about(noise(256, 256, 0)), BRIEF, told.append)
    return [asyncio.run(listening).text, "".join(told), len(told)]

async def abandon():
    asked = asyncio.create_task(model.complete(ask_about(noise(256, 256, 0)), Decoding(max_new_tokens=900)))
    await asyncio.sleep(0.1)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)

def close_socket(kind):
    waits = []
    sockets.sleep = waits.append
    with sockets.patient_sockets():
        socket = zmq.asyncio.Context().socket(kind)
    socket.close()
    socket.close()
    return waits

def kill_engine():
    children = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    for line in children.stdout.splitlines():
        if "EngineCore" in line:
            os.kill(int(line.split()[0]), signal.SIGKILL)

if __name__ == "__main__":
    args = {"enforce_eager": True, "max_model_len": 1024}
    model = load_model("vllm:nano", dtype="float32", engine_args=args)
    words = Decoding(max_new_tokens=1, first_words=("left", "right"))
    four = reply(model, *[noise(256, 256, 0)] * 4)
    asyncio.run(abandon())
    found = {
        "four": [four.text, four.finish_reason, four.usage.model_dump(mode="json")],
        "listened": listen(),
        "begun": [tell(each) for each in reply_all(model, BEGUN)],
        "stopped": tell(reply(model, noise(256, 256, 0), decoding=STOPPING)),
        "first_probs": reply(model, noise(256, 256, 0), decoding=words).first_probs,
        "drawn": [reply(model, noise(256, 256, 0), decoding=draw(seed)).text for seed in (7, 8, 7)],
        "linger": [each.linger for each in gc.get_objects() if isinstance(each, zmq.asyncio.Socket)],
        "too long": refuse(question="Where is the red star? " * 400),
    }
    found["context"] = zmq.asyncio.Context.__name__
    kill_engine()
    found["dead"] = refuse()
    found["waits"] = [close_socket(kind) for kind in (zmq.PULL, zmq.ROUTER)]
    print(json.dumps(found))
"""


def tell(completion: Completion) -> list[object]:
    return [completion.text, completion.finish_reason, completion.usage.model_dump(mode="json")]


def test_limits_seeds_begun_replies_and_a_dead_engine(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = vllm_guest.run("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    local = LocalModel.load(CHECKPOINT, device="cpu", dtype="float32")
    assert found["four"] == tell(reply(local, *[noise(256, 256, 0)] * 4))
    whole, told, num_pieces = found["listened"]
    assert whole == told == reply(local, noise(256, 256, 0)).text
    assert num_pieces > 1
    at_noise = ask_about(noise(256, 256, 0))
    begun = [begin(at_noise, '[{"bbox_2d": '), begin(ask_about(), "Look: ", noise(256, 256, 0), "[2")]
    stopping = Decoding(max_new_tokens=24, stop=("]",))
    assert found["begun"] == [tell(each) for each in reply_all(local, begun)]
    assert found["stopped"] == tell(reply(local, noise(256, 256, 0), decoding=stopping))
    drawn = found["drawn"]
    assert drawn[0] == drawn[2] != drawn[1]
    assert max(found["first_probs"]) > 0.001
    assert "maximum context length is 1024 tokens" in found["too long"][0]
    assert "raise max_model_len by `engine_args`" in found["too long"][1]
    assert len(found["linger"]) > 1
    assert {*found["linger"]} == {0}
    assert found["waits"] == [[], [NOTICE_S]]
    assert found["context"] == "Context"
    assert found["dead"][1].endswith("load the model again")


@pytest.mark.very_slow  # test_vllm_engine.py has it with a stand-in
def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        'from p2r.models.load import load_model\nload_model("vllm:nano", engine_args={"enforce_eager": True})\n'
    )
    done = vllm_guest.run("script.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith('below a line `if __name__ == "__main__":`')


def test_an_unknown_engine_argument_is_one_sentence(tmp_path: Path) -> None:
    noise(64, 64, 0).save(tmp_path / "noise.png")
    arguments = ("ask", "noise.png", "Where?", "--model", "vllm:nano", "--engine-arg", "enforce_eagre=true")
    done = vllm_guest.run("-m", "p2r", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    said = "error: vLLM's engine has no argument 'enforce_eagre'\nhint: did you mean enforce_eager?\n"
    assert done.stderr.endswith(said)
