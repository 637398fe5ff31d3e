"""The command and the package load only what they need: `p2r --help` no library of a model, `P2R` no benchmark."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from p2r.cli.app import COMMANDS, load_command, main

HEAVY = {"openai", "jinja2", "numpy", "PIL", "pydantic", "torch", "transformers", "stamina", "pyarrow"}


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh Python has imported after `code`."""
    check = (
        f"import contextlib, io, sys\nwith contextlib.redirect_stdout(io.StringIO()):\n    {code}\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True, timeout=60)
    return set(done.stdout.split())


def test_help_loads_neither_a_library_of_models_nor_a_room() -> None:
    call = "from p2r.cli.app import app; app(['--help'], standalone_mode=False)"
    loaded = loaded_by(call)
    assert not HEAVY & loaded
    assert {name for name in loaded if name.startswith("p2r.")} == {
        *("p2r.cli", "p2r.cli.app", "p2r.cli.flags", "p2r.cli.guard", "p2r.cli.interrupt", "p2r.cli.usage"),
        *("p2r.errors", "p2r.signals", "p2r.version"),
    }


def test_asking_from_python_loads_neither_a_benchmark_nor_a_report() -> None:
    loaded = loaded_by("from p2r import P2R, load_model, make_sample, walk")
    rooms = {name.split(".")[1] for name in loaded if name.startswith("p2r.")}
    assert "modes" in rooms
    assert not rooms & {"benchmarks", "evaluation", "report", "runs", "training", "leakage"}
    assert not {"jinja2", "openai", "torch"} & loaded


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_one_that_the_help_names(name: str) -> None:
    command = load_command(name)
    assert command.name == name
    assert command.help
    assert len(COMMANDS[name].summary) <= 66, "the list of commands has a line for each"
    assert bool(COMMANDS[name].examples) == bool(command.epilog)


def test_no_garbage_is_looked_for_when_the_command_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model and its libraries take more than a second of that, which Ctrl-C would wait for."""
    monkeypatch.setattr("sys.argv", ["p2r", "--version"])
    try:
        with pytest.raises(SystemExit):
            main()
        assert not gc.isenabled() and gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()


def test_ctrl_c_ends_the_process_while_a_thread_is_at_work() -> None:
    """Python's own end would wait for this thread, or abort in one that is within torch."""
    code = (
        "import atexit, threading, p2r.cli.app as app\n"
        "def end(**_):\n"
        "    atexit.register(print, 'cleaned up')\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        "    print('kept')\n"
        "    raise SystemExit(130)\n"
        "app.app = end\n"
        "app.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "kept\ncleaned up\n", "")


def test_ctrl_c_while_a_class_is_made_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str) -> None:
        raise RuntimeError(f"Error calling __set_name__ in {name}") from KeyboardInterrupt()

    monkeypatch.setattr("p2r.cli.app.import_module", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_command("ask")


def test_another_fault_of_a_module_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError(name) from ValueError()

    monkeypatch.setattr("p2r.cli.app.import_module", fail)
    with pytest.raises(RuntimeError, match=r"p2r\.cli\.ask"):
        load_command("ask")
