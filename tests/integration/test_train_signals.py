"""A run that gets a signal keeps its last finished step, wherever the signal finds it, and resumes to the last bit."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

from p2r.errors import TooManyErrors
from p2r.signals import INTERRUPTED
from p2r.training import failures, micro_batch
from p2r.training.engines.local.group_cache import GroupCache, PromptReading
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.sft import update as sft_update
from p2r.training.stopping import Interrupted, StopRequest
from p2r.training.train import train
from p2r.training.watch.watcher import Watcher
from tests.fakes.processes import finish
from tests.fakes.tiny_training import PERCEIVER_STEPS, make_recipe, read_metrics, run
from tests.integration.test_train_kill import LONGEST_WAIT_S, count_steps, start, wait_for_a_step
from tests.integration.test_train_resume import assert_same
from tests.integration.test_train_sft import make_recipe as make_sft_recipe

pytestmark = pytest.mark.slow

MOMENTS: dict[str, tuple[object, str, int]] = {
    "while the first step is sampled": (GroupCache, "next_step", 5),
    "while the second step is sampled": (GroupCache, "next_step", 60),
    "while the frozen role reads": (PromptReading, "attend", 14),
    "while the frozen role answers": (GroupCache, "next_step", 100),
    "after the first of two updates": (Optimizer, "step", 3),
    "after the last update of a step": (Optimizer, "step", 4),
    "in the reasoner's phase": (Optimizer, "step", 7),
    "after the last update of all": (Optimizer, "step", 10),
}
"""Where a signal comes: a function, and after which of its calls."""
VARIANTS = (
    "while the first step is sampled",
    "while the frozen role reads",
    "after the last update of a step",
    "in the reasoner's phase",
)
"""Very slow: their neighbors in the list show the same. That sampling and reading are left at once is tested below."""
MOST_TASKS = 100
"""Turns of the event loop in which a cancellation reaches the thread that samples."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(make_recipe(out))
    return out


def signal_after(
    patch: pytest.MonkeyPatch, place: object, name: str, number: int, sign: signal.Signals
) -> Callable[[], int]:
    """Send this process a signal after a call of a function; returns how many calls came after it."""
    called, original, heard, leave = [0], getattr(place, name), threading.Event(), StopRequest._leave

    def call(*args: object, **kwargs: object) -> object:
        result = original(*args, **kwargs)
        called[0] += 1
        if called[0] == number:
            os.kill(os.getpid(), sign)
            if threading.current_thread() is not threading.main_thread():
                assert heard.wait(LONGEST_WAIT_S)
        return result

    def note(stop: StopRequest) -> None:
        try:
            leave(stop)
        except KeyboardInterrupt:  # the second signal
            heard.set()
            raise
        count_down(MOST_TASKS)

    def count_down(number: int) -> None:
        """Give every task that is cancelled by another one its turn."""
        if number:
            asyncio.get_running_loop().call_soon(count_down, number - 1)
        else:
            heard.set()

    patch.setattr(place, name, call)
    patch.setattr(StopRequest, "_leave", note)
    return lambda: called[0] - number


@pytest.mark.parametrize(
    "moment", [pytest.param(each, marks=[pytest.mark.very_slow] if each in VARIANTS else []) for each in MOMENTS]
)
def test_a_run_stopped_anywhere_resumes_to_the_same_figures_and_weights(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    place, name, number = MOMENTS[moment]
    recipe = make_recipe(tmp_path / "run", ["checkpoint.every=1000"])
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        signal_after(patch, place, name, number, signal.SIGTERM)
        run(recipe)
    assert caught.value.exit_code == 143
    num_logged = count_steps(tmp_path / "run")
    said = run(recipe, resume=True)
    assert_same(tmp_path / "run", whole)
    first = "0-perceiver: steps" if num_logged < PERCEIVER_STEPS else "1-reasoner: steps"
    assert any(line.startswith(f"phase {first} {num_logged % PERCEIVER_STEPS + 1} to") for line in said)


@pytest.mark.parametrize(
    ("place", "name"), [(GroupCache, "next_step"), (PromptReading, "attend"), (micro_batch, "policy_loss")]
)
def test_ctrl_c_is_heeded_at_the_next_token_or_micro_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: object, name: str
) -> None:
    """Counted, since a test that measures seconds depends on the machine."""
    with monkeypatch.context() as patch:
        num_after = signal_after(patch, place, name, 3, signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            run(make_recipe(tmp_path / "run", ["probe.num=1"]))
    assert caught.value.exit_code == INTERRUPTED
    assert num_after() == 0
    assert "no step was finished" in caught.value.message


@pytest.mark.parametrize("place", ["p2r.benchmarks.needles.SceneImage.load", "p2r.training.phases.load_policy"])
def test_nothing_waits_for_an_image_that_is_decoded_or_for_a_model_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """They cannot be left halfway. Here they would go on until the test is over."""
    test_is_over, begun = threading.Event(), list[str]()

    def hang(*_: object, **__: object) -> None:
        begun.append("")
        if len(begun) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        test_is_over.wait(LONGEST_WAIT_S)

    with monkeypatch.context() as patch:
        patch.setattr(place, hang)
        with pytest.raises(Interrupted):
            run(make_recipe(tmp_path / "run", ["data.check_images=header"]))
    assert begun and not test_is_over.is_set()
    test_is_over.set()


def test_a_supervised_step_is_left_at_its_next_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_sft_recipe(tmp_path, "run")
    assert (
        recipe.phases()[0].prompts_per_step == 4 and recipe.sft.pack_tokens < 200
    )  # so that a step has several passes
    said: list[str] = []
    with monkeypatch.context() as patch:
        num_after = signal_after(patch, sft_update, "measure_loss", 5, signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            train(recipe, watcher=Watcher(say=said.append))
    assert num_after() == 0
    assert "as of step 2 of phase 0-sft is kept" in caught.value.message
    assert said[-1].startswith("interrupted: stopping")


def test_a_second_ctrl_c_ends_a_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def say(text: str) -> None:
        if "a second signal" in text:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as caught:
        signal_after(patch, GroupCache, "next_step", 60, signal.SIGINT)
        train(make_recipe(tmp_path / "run"), watcher=Watcher(say=say))
    assert not isinstance(caught.value, Interrupted)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_too_many_errors_keep_the_last_finished_step(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(tmp_path / "run", ["checkpoint.every=1000"])
    checks = [0]

    def fail(*_: object) -> None:
        checks[0] += 1
        if checks[0] == 3:
            raise TooManyErrors("the server has gone")

    with monkeypatch.context() as patch, pytest.raises(TooManyErrors):
        patch.setattr(failures.FailureGauge, "check", fail)
        run(recipe)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["000-000002"]
    run(recipe, resume=True)
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("sign", "code", "said"),
    [
        pytest.param(signal.SIGTERM, 143, "asked to end by SIGTERM; ", marks=pytest.mark.very_slow),
        (signal.SIGINT, 130, "interrupted; "),
    ],
)
def test_the_command_says_what_it_kept_and_ends_with_the_signals_code(
    tmp_path: Path, whole: Path, sign: signal.Signals, code: int, said: str
) -> None:
    """The runs above get SIGTERM as well; test_train_processes.py has the command with it."""
    out = tmp_path / "run"
    process = start(out)
    wait_for_a_step(out, process)
    process.send_signal(sign)
    _, errors = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == code
    assert "Traceback" not in errors and said in errors and "is kept in" in errors and "--resume" in errors
    finish(start(out, "--resume"), longest_wait_s=LONGEST_WAIT_S)
    assert read_metrics(out) == read_metrics(whole)
