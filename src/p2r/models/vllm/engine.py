"""vLLM's engine in this process: started, asked and ended. Its processes do the work.

It uses the public interface of vLLM's V1 engine (`AsyncEngineArgs`, `AsyncLLMEngine`, `SamplingParams`, from 0.11 on),
and is tested with vLLM 0.32, of which there is a build for CPUs. An engine belongs to one event loop, so it has its own
loop in a thread; callers may use any loop.

vLLM's log goes to stderr, and only its errors do, unless VLLM_LOGGING_STREAM and VLLM_LOGGING_LEVEL say otherwise. The
engine's processes are ended by `close`, when the engine is garbage, or at the end of the program.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import itertools
import multiprocessing
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

from pydantic import ValidationError

from p2r.errors import ConfigError, ModelError, excerpt, explain_fault
from p2r.loop import LONGEST_WAIT_S
from p2r.models.checkpoint import first_line
from p2r.models.known import INSTALL_VLLM
from p2r.models.vllm.interface import AsyncEngine, PromptReader, RequestOutput
from p2r.models.vllm.sockets import patient_sockets

Result = TypeVar("Result")

CLOSE_TIMEOUT_S = 60.0
VARIABLES = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "30",
}
"""Variables of the environment for vLLM and its processes, unless they are set. Left alone, these log to stdout, and
are killed when they have not ended within 5 seconds."""
TOO_LONG = ("maximum context length", "longer than the maximum model length")
LOAD_AGAIN = "load the model again"
ENDED = "its processes have ended"
SEE_ABOVE = f"vLLM's processes have ended, and its messages above say why: {LOAD_AGAIN}"
UNGUARDED = (
    "vLLM starts processes that run your script again: put what the script does below a line "
    '`if __name__ == "__main__":`'
)


class VllmEngine:
    """A running engine.

    loop: the event loop that it belongs to.
    max_tokens: the most tokens of a prompt and its reply.
    """

    def __init__(self, engine_args: Mapping[str, object]) -> None:
        """Start it.

        Args:
            engine_args: of vLLM's AsyncEngineArgs, by name.

        Raises:
            ModelError: vLLM cannot be imported, or cannot run the model.
            ConfigError: an argument has no such name.
        """
        self._vllm = _import_vllm()
        _check_names(engine_args, self._vllm.AsyncEngineArgs)
        self._ids = itertools.count()
        self.loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self.loop.run_forever, name="p2r-vllm", daemon=True)
        thread.start()
        try:
            starting = asyncio.run_coroutine_threadsafe(_start(self._vllm, engine_args), self.loop)
            self._running = [starting.result()]
        except Exception as error:  # CUDA, Ray and vLLM raise errors of their own
            _stop(self.loop, thread)
            hint = UNGUARDED if _is_unguarded() else "its own messages above say more; the model must fit the memory"
            raise ModelError(f"vLLM cannot run {engine_args['model']}: {_explain(error)}", hint=hint) from error
        del starting
        self.max_tokens = self._running[0].model_config.max_model_len
        self._closing = weakref.finalize(self, _close, self._running, self.loop, thread)
        # By itself, it would end the engine after the modules that the engine needs for that.
        self._closing.atexit = False
        atexit.register(self._closing)

    def close(self) -> None:
        """End the engine and its processes. Whoever waits for a reply gets an error. A second call does nothing."""
        self._closing()

    @property
    def is_dead(self) -> bool:
        """Tell whether its processes have ended, by themselves or by `close`."""
        return not self._running or self._running[0].errored

    def sleep(self) -> None:
        """Free the memory of its weights and caches until `read_weights`, where the build can (GPUs).

        Raises:
            ModelError: it is dead.
        """
        self._change(_sleep)

    def read_weights(self, folder: Path, version: str) -> None:
        """Take the weights of another checkpoint of the same model; what is drawn with them says this version.

        Needs the engine argument worker_extension_cls; see `p2r.models.vllm.worker`.

        Raises:
            ModelError: vLLM cannot read them, is dead, or is one that knows no versions.
        """
        if not hasattr(self._vllm.AsyncLLMEngine, "update_weight_version"):
            raise ModelError(
                "this vLLM does not say with which weights it has replied", hint="install vLLM 0.32, or a later one"
            )
        self._change(partial(_read_weights, folder=folder, version=version))

    def _change(self, work: Callable[[AsyncEngine], Coroutine[object, object, None]]) -> None:
        """Wait for work on the engine's weights, in another thread than its loop's. Raises ModelError."""
        try:
            changing = self._begin(work)
            while not wait([changing], LONGEST_WAIT_S).done:
                pass  # Ctrl-C is heeded between two waits
            changing.result()
        except (Exception, FutureCancelled) as error:  # vLLM's errors have no common ancestor
            why = ENDED if self.is_dead else first_line(error)
            raise ModelError(f"vLLM cannot change its weights: {why}", hint=_find_hint(error)) from error

    def _begin(self, work: Callable[[AsyncEngine], Coroutine[object, object, Result]]) -> Future[Result]:
        """Begin work with the engine on its own loop. Raises ModelError where it was closed."""
        try:
            (engine,) = self._running
        except ValueError:
            raise ModelError("the engine was closed", hint=LOAD_AGAIN) from None
        return asyncio.run_coroutine_threadsafe(_while_alive(engine, work), self.loop)

    async def generate(
        self,
        request: Mapping[str, object],
        sampling_args: Mapping[str, object],
        on_text: Callable[[str], None] | None = None,
    ) -> RequestOutput:
        """Reply to a prompt of vLLM's form. A call that is cancelled is aborted there too.

        Args:
            on_text: told each piece of the first reply as it comes, in the caller's event loop.

        Raises:
            ModelError: vLLM gives no reply.
        """
        kinds = self._vllm.sampling_params.RequestOutputKind
        tell = None if on_text is None else partial(asyncio.get_running_loop().call_soon_threadsafe, on_text)
        try:
            kind = kinds.FINAL_ONLY if tell is None else kinds.CUMULATIVE
            sampling = self._vllm.SamplingParams(**sampling_args, output_kind=kind)
            request_id = f"p2r-{next(self._ids)}"
            read = partial(_read_reply, request=request, sampling=sampling, request_id=request_id, tell=tell)
            return await asyncio.wrap_future(self._begin(read))
        except asyncio.CancelledError:
            if self._running:
                raise
            raise ModelError("the engine was closed", hint=LOAD_AGAIN) from None
        except Exception as error:  # vLLM's errors have no common ancestor
            raise ModelError(first_line(error), hint=_find_hint(error)) from error


async def _start(vllm: ModuleType, engine_args: Mapping[str, object]) -> AsyncEngine:
    """Start an engine on the running loop, to which it then belongs."""
    with patient_sockets():
        return vllm.AsyncLLMEngine.from_engine_args(vllm.AsyncEngineArgs(**engine_args))


async def _while_alive(engine: AsyncEngine, work: Callable[[AsyncEngine], Coroutine[object, object, Result]]) -> Result:
    """Wait for work with an engine. When its processes end, vLLM gives up on some calls, and never answers others.

    Raises:
        ModelError: its processes have ended.
    """
    working = asyncio.ensure_future(work(engine))
    try:
        while not working.done():
            was_dead = engine.errored
            await asyncio.wait([working], timeout=LONGEST_WAIT_S)
            if was_dead:  # and what it had answered by then has come
                working.cancel()
    except asyncio.CancelledError:
        working.cancel()
        raise
    if working.cancelled():
        raise ModelError(ENDED, hint=SEE_ABOVE)
    return working.result()


async def _sleep(engine: AsyncEngine) -> None:
    await engine.sleep(level=2)  # without a copy of the weights; it empties the caches


async def _read_weights(engine: AsyncEngine, folder: Path, version: str) -> None:
    await _sleep(engine)  # nothing in the caches may be of other weights
    await engine.wake_up(tags=["weights"])
    await engine.collective_rpc("read_weights", args=(str(folder),))
    await engine.update_weight_version(version)
    await engine.wake_up(tags=["kv_cache"])


async def _read_reply(
    engine: AsyncEngine,
    *,
    request: Mapping[str, object],
    sampling: object,
    request_id: str,
    tell: Callable[[str], object] | None,
) -> RequestOutput:
    """Return the output that vLLM yields at the end, and tell what each one adds to the text."""
    reader = cast("PromptReader | None", getattr(engine, "renderer", None))
    if reader is not None:
        (request,) = await reader.render_cmpl_async([request])
    last: RequestOutput | None = None
    num_told = 0
    async for output in engine.generate(request, sampling, request_id):
        last = output
        if tell is not None and (piece := output.outputs[0].text[num_told:]):
            tell(piece)
            num_told += len(piece)
    if last is None:
        raise ModelError("it gave no output")
    return last


def _close(running: list[AsyncEngine], loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """End an engine on its own loop, and then the loop. The garbage collector may call this in any thread.

    Args:
        running: the engine, which is taken out: whatever is left of it at the very end of the program would fail there.
    """

    async def end() -> None:
        engine = running.pop()
        was_dead = engine.errored
        with contextlib.suppress(Exception):  # it may be dead already
            try:
                engine.shutdown(timeout=CLOSE_TIMEOUT_S / 2)
            except TypeError:  # older ones know no timeout
                engine.shutdown()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if was_dead and rest:
            # A thread of vLLM's closes its sockets on this loop, and ends what waits for them. Whoever lets go of the
            # context of one that is left open waits forever.
            await asyncio.wait(rest, timeout=CLOSE_TIMEOUT_S / 2)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    ended = asyncio.run_coroutine_threadsafe(end(), loop)
    if threading.current_thread() is thread:
        ended.add_done_callback(lambda _: loop.stop())
        return
    with contextlib.suppress(FutureTimeoutError):
        ended.result(CLOSE_TIMEOUT_S)
    _stop(loop, thread)
    gc.collect()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Stop a loop, and wait for its thread."""
    loop.call_soon_threadsafe(loop.stop)
    thread.join(CLOSE_TIMEOUT_S)
    if not thread.is_alive():
        loop.close()


def _import_vllm() -> ModuleType:
    """Import vLLM, which then logs to stderr. Raises ModelError."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ModelError("a process that vLLM has started would start vLLM again", hint=UNGUARDED)
    if find_spec("vllm") is None:
        raise ModelError("vLLM is not installed", hint=INSTALL_VLLM)
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        vllm = import_module("vllm")
        import_module("vllm.sampling_params")
        _ = vllm.AsyncLLMEngine, vllm.AsyncEngineArgs, vllm.SamplingParams  # much is imported only now
    except Exception as error:  # libraries that do not fit raise OSError, RuntimeError, ...
        raise ModelError(
            f"vLLM is installed but cannot be imported: {first_line(error)}",
            hint="install the torch and torchvision that your vLLM asks for (`pip check` names them), or use a server: "
            "http://host:port/v1#model",
        ) from error
    return vllm


def _check_names(engine_args: Mapping[str, object], kind: type) -> None:
    """Make sure that vLLM's engine has arguments of these names. Raises ConfigError."""
    known = cast("Mapping[str, object]", getattr(kind, "__dataclass_fields__", engine_args))
    for name in engine_args:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ConfigError(
                f"vLLM's engine has no argument {excerpt(name)}",
                hint=f"did you mean {near[0]}?" if near else "`vllm serve --help=all` lists them, with - for _",
            )


def _is_unguarded() -> bool:
    """Tell from its text whether the program is a script that does its work even where it is only imported."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return script is not None and "__main__" not in Path(script).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _explain(error: Exception) -> str:
    """Say why an engine does not start. The first line of a pydantic error would be a count."""
    return explain_fault(error.errors()[0]) if isinstance(error, ValidationError) else first_line(error)


def _find_hint(error: Exception) -> str:
    """Say what to do about an error of vLLM; "" where nothing is known."""
    if isinstance(error, ModelError):
        return error.hint
    if type(error).__name__ == "EngineDeadError":
        return SEE_ABOVE
    if any(words in str(error) for words in TOO_LONG):
        return "lower `max_pixels`, or raise max_model_len by `engine_args`, if the model can take it"
    return ""
