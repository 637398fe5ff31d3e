"""What ends a command is said in the same words and with the same exit codes everywhere."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from p2r.signals import EXIT_OFFSET, INTERRUPTED, TERMINATED, as_exit_code, describe_signal
from p2r.training import keeper
from tests.fakes.processes import heed_ctrl_c


def test_exit_codes_are_those_of_a_shell() -> None:
    for sign, code in ((signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)):
        done = subprocess.run(
            ["sh", "-c", f"sh -c 'kill -{int(sign)} $$'; exit $?"], check=False, preexec_fn=heed_ctrl_c
        )
        assert done.returncode == code == as_exit_code(-sign)
    assert (as_exit_code(0), as_exit_code(3)) == (0, 3)


def test_the_keeper_which_cannot_import_p2r_counts_alike() -> None:
    assert keeper.SIGNALLED == EXIT_OFFSET


def test_ctrl_c_has_a_plain_word_and_other_signals_their_names() -> None:
    assert describe_signal(signal.SIGINT) == "interrupted"
    assert describe_signal(signal.SIGTERM) == "asked to end by SIGTERM"


GUARDED = """
import asyncio, os, signal, sys
import typer
from p2r.cli.guard import end_interrupted, guarded

async def wait():
    try:
        os.kill(os.getpid(), signal.{sign})
        await asyncio.sleep(300)
    finally:
        if "{second}":
            os.kill(os.getpid(), getattr(signal, "{second}"))
        print("cleaned up")

def blocking():
    os.kill(os.getpid(), signal.{sign})
    signal.pause()

def loop():
    asyncio.run(wait())

def keeping():
    try:
        loop()
    except KeyboardInterrupt:
        raise end_interrupted("much is kept", "the same command resumes") from None

def training():
    from p2r.training.stopping import StopRequest
    stop = StopRequest(print)
    with stop.heeding_signals():
        asyncio.run(stop.run(wait()))

def blocking_training():
    from p2r.training.stopping import StopRequest
    stop = StopRequest(print)
    with stop.heeding_signals():
        os.kill(os.getpid(), signal.{sign})
        while stop.sign is None:  # two at once would be handled by their numbers
            pass
        os.kill(os.getpid(), getattr(signal, "{second}"))

try:
    guarded({command})()
except typer.Exit as end:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    sys.exit(end.exit_code)
"""


def run_guarded(
    sign: str, command: str, second: str = "", *, on_ctrl_c: str = "default_int_handler"
) -> subprocess.CompletedProcess[str]:
    """Run a command that sends itself a signal, and a second one while it cleans up, if one is named.

    on_ctrl_c: what Python, or the shell, has set for SIGINT.
    """
    code = f"import signal\nsignal.signal(signal.SIGINT, signal.{on_ctrl_c})\n"
    code += GUARDED.format(sign=sign, second=second, command=command)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("command", ["blocking", "loop", "keeping"])
@pytest.mark.parametrize(("sign", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_every_command_ends_with_a_sentence_and_the_code_of_its_signal(command: str, sign: str, code: int) -> None:
    done = run_guarded(sign, command)
    said = "interrupted" if sign == "SIGINT" else "asked to end by SIGTERM"
    kept = "; much is kept\nhint: the same command resumes" if command == "keeping" else ""
    assert (done.returncode, done.stderr) == (code, f"error: {said}{kept}\n")
    assert done.stdout == ("" if command == "blocking" else "cleaned up\n")


@pytest.mark.parametrize(
    ("first", "command", "on_ctrl_c"),
    [
        ("SIGTERM", "loop", "default_int_handler"),
        ("SIGTERM", "training", "default_int_handler"),
        ("SIGINT", "training", "default_int_handler"),
        ("SIGTERM", "blocking_training", "SIG_IGN"),
    ],
)
def test_a_second_sigterm_ends_a_command_at_once_with_its_own_code(first: str, command: str, on_ctrl_c: str) -> None:
    if "training" in command:
        pytest.importorskip("torch")
    done = run_guarded(first, command, "SIGTERM", on_ctrl_c=on_ctrl_c)
    assert (done.returncode, done.stderr) == (143, "error: asked to end by SIGTERM\n")
    assert "cleaned up" not in done.stdout


def test_ctrl_c_after_a_sigterm_ends_a_training_as_ctrl_c_does() -> None:
    pytest.importorskip("torch")
    done = run_guarded("SIGTERM", "blocking_training", "SIGINT")
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_sigterm_ends_a_command_in_the_background_where_ctrl_c_is_ignored() -> None:
    done = run_guarded("SIGTERM", "blocking", on_ctrl_c="SIG_IGN")
    assert (done.returncode, done.stderr) == (143, "error: asked to end by SIGTERM\n")
