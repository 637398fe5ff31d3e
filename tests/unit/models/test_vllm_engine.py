"""The end of vLLM's engine, and scripts that load it, with a stand-in for vLLM.

tests/integration/test_vllm_in_process.py asks the real one.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from p2r.dialogue import Model
from p2r.errors import ModelError
from p2r.loop import LONGEST_WAIT_S
from p2r.models.load import load_model
from tests.fakes import stand_in_vllm
from tests.fakes.stand_in_vllm import GREEDY, STAND_IN, ask


@pytest.fixture
def vllm(tmp_path: Path) -> Iterator[ModuleType]:
    with stand_in_vllm.installed(tmp_path) as module:
        yield module


@pytest.fixture
def model(vllm: ModuleType) -> Model:
    pytest.importorskip("transformers")
    return load_model("vllm:nano")


def close(model: Model) -> None:
    model.close()  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_closed_engine_is_shut_down_and_its_loop_ended(vllm: ModuleType, model: Model) -> None:
    waiting = asyncio.ensure_future(model.complete(ask("wait"), GREEDY))
    while not vllm.asked:
        await asyncio.sleep(0.001)
    await asyncio.to_thread(close, model)
    with pytest.raises(ModelError, match="vllm:nano failed while generating: the engine was closed") as caught:
        await waiting
    assert caught.value.hint == "load the model again"
    with pytest.raises(ModelError, match="the engine was closed"):
        await model.complete(ask("What?"), GREEDY)
    close(model)
    (handler,) = vllm.ended
    assert handler.cancelled()
    assert handler.get_loop().is_closed()


@pytest.mark.parametrize("fault", ["lost", "dropped"])
async def test_whoever_waits_for_a_dead_engine_is_told(vllm: ModuleType, model: Model, fault: str) -> None:
    with pytest.raises(ModelError, match="vllm:nano failed while generating: its processes have ended") as caught:
        await model.complete(ask(fault), GREEDY)
    assert caught.value.hint.startswith("vLLM's processes have ended, and its messages above say why")


@pytest.mark.parametrize("is_dying", [True, False])
async def test_a_slow_answer_is_waited_for_also_where_the_engine_has_died_of_late(
    vllm: ModuleType, model: Model, monkeypatch: pytest.MonkeyPatch, is_dying: bool
) -> None:
    answer = vllm.AsyncLLMEngine.generate

    async def answer_late(self: SimpleNamespace, *request: object) -> AsyncIterator[object]:
        await asyncio.sleep(0.8 * LONGEST_WAIT_S)
        if is_dying:
            self.die()
        await asyncio.sleep(0.8 * LONGEST_WAIT_S)
        async for output in answer(self, *request):
            yield output

    monkeypatch.setattr(vllm.AsyncLLMEngine, "generate", answer_late)
    assert (await model.complete(ask("What?"), GREEDY)).text == "Yes, a star."


async def test_an_engine_that_has_died_lets_go_of_its_loop_before_that_is_closed(
    vllm: ModuleType, model: Model
) -> None:
    """The real one's sockets are closed on it."""
    with pytest.raises(ModelError):
        await model.complete(ask("dropped"), GREEDY)
    assert not vllm.let_go
    await asyncio.to_thread(close, model)
    assert vllm.let_go == vllm.ended
    assert vllm.ended[0].get_loop().is_closed()


def test_an_engine_that_nobody_holds_is_ended(vllm: ModuleType) -> None:
    load_model("vllm:nano")
    gc.collect()
    assert len(vllm.ended) == 1


SCRIPT = """
    from p2r.models.load import load_model
    model = load_model("vllm:nano")
    print("loaded")
"""


def run_script(place: Path, text: str, *lines: str) -> subprocess.CompletedProcess[str]:
    """Run a script beside the stand-in, after more `lines` of the stand-in."""
    package = place / "site" / "vllm" / "__init__.py"
    package.write_text("\n".join([STAND_IN, *map(textwrap.dedent, lines)]))
    (place / "script.py").write_text(textwrap.dedent(text))
    paths = os.pathsep.join([str(package.parents[1]), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, place / "script.py"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )


SHUT_DOWN = """
    def shutdown(self):
        print("shut down", asyncio.get_running_loop() is self.loop, flush=True)
    AsyncLLMEngine.shutdown = shutdown
"""


def test_the_engine_is_ended_with_the_program(vllm: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    done = run_script(tmp_path, SCRIPT, SHUT_DOWN)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loaded\nshut down True\n", "")


REMEMBERS = """
    import sys
    def forget(self):
        print("forgotten while modules are there", sys.modules is not None, flush=True)
    AsyncLLMEngine.__del__ = forget
"""


def test_nothing_of_the_engine_is_left_at_the_very_end(vllm: ModuleType, tmp_path: Path) -> None:
    """vLLM's own end of an engine would find its modules gone."""
    pytest.importorskip("transformers")
    at_last = "    import atexit\n    atexit.register(print, 'the rest')\n"
    done = run_script(tmp_path, textwrap.dedent(at_last) + textwrap.dedent(SCRIPT), REMEMBERS)
    assert done.stdout.splitlines() == ["loaded", "forgotten while modules are there True", "the rest"]


FAILS = """
    def start(args):
        raise RuntimeError("Engine core initialization failed. See root cause above.")
    AsyncLLMEngine.from_engine_args = start
"""


@pytest.mark.parametrize("is_guarded", [False, True])
def test_a_script_without_a_guard_is_told_of_it(vllm: ModuleType, tmp_path: Path, is_guarded: bool) -> None:
    pytest.importorskip("transformers")
    guard = '    if __name__ == "__main__": pass\n' if is_guarded else ""
    done = run_script(tmp_path, SCRIPT + guard, FAILS)
    assert done.returncode == 1
    assert ("below a line `if __name__" in done.stderr) != is_guarded
    assert ("must fit the memory" in done.stderr) == is_guarded


def test_a_process_that_is_being_started_starts_no_engine(vllm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ModelError, match="would start vLLM again") as caught:
        load_model("vllm:nano")
    assert "__main__" in caught.value.hint
    assert not vllm.started
