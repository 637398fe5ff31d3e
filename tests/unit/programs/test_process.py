"""The process of its own: what its limits do, that several run at once, and that none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

import p2r
from p2r.errors import StorageError, ToolError
from p2r.programs import child, process
from p2r.programs.process import Made, ask_process

PATH = "/mnt/data/image.png"
IMAGE = Image.effect_noise((400, 300), 50).convert("RGB")
HEAVY = "k = np.ones((31, 31))\nx = cv2.imread(image_path)\nx = cv2.resize(x, (6000, 6000))\nfor i in range(9999):\n"
HEAVY += "    x = cv2.filter2D(x, -1, k)\nprint(1)"


def test_images_and_texts_come_back_as_they_were_made() -> None:
    first = "part = Image.open(image_path).crop((100, 60, 300, 210))\npart.save('/tmp/a.png')\nprint('/tmp/a.png')"
    second = "part.resize((20, 15)).save('/tmp/b.png')\nprint('/tmp/b.png')"
    (made,) = ask_process([first], IMAGE, PATH)
    assert isinstance(made, Made)
    assert made.image.tobytes() == IMAGE.crop((100, 60, 300, 210)).tobytes()
    assert made.region == pytest.approx((0.25, 0.2, 0.75, 0.7))
    (smaller,) = ask_process([first, second], IMAGE, PATH)
    assert isinstance(smaller, Made) and smaller.image.size == (20, 15) and smaller.region == made.region
    assert ask_process(["print('\\ud800', 1)"], IMAGE, PATH) == ("\ud800 1",)


def test_several_questions_are_asked_at_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda number: ask_process([f"print({number} * 2)"], IMAGE, PATH), range(8))
    assert [*found] == [(f"{2 * number}",) for number in range(8)]


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(ToolError, match="the name 'x' is not defined"):
        ask_process(["print(x)"], IMAGE, PATH)


@pytest.mark.slow
def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ToolError, match="more than 10 seconds"):
        ask_process([HEAVY], IMAGE, PATH)


@pytest.mark.slow
def test_a_program_that_takes_too_much_memory_is_an_error() -> None:
    with pytest.raises(ToolError):
        ask_process(["x = []\nfor i in range(20):\n    x.append(np.ones((9000, 9000)))\nprint(1)"], IMAGE, PATH)


def test_a_process_that_ends_early_is_the_programs_fault_only_once_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side, does, error in ((2000, "", StorageError), (20, "os.write(1, b'.')", ToolError)):
        script = tmp_path / "child.py"
        script.write_text(f"import os\n{does}\nos.kill(os.getpid(), 9)\n", encoding="utf-8")
        monkeypatch.setattr(child, "__file__", str(script))
        with pytest.raises(error):
            ask_process(["print(1)"], IMAGE.resize((side, side)), PATH)


def test_a_process_that_never_answers_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "child.py"
    script.write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    monkeypatch.setattr(child, "__file__", str(script))
    monkeypatch.setattr(process, "MOST_WAITED_S", 0.2)
    started = time.monotonic()
    with pytest.raises(StorageError, match="before it began"):
        ask_process(["print(1)"], IMAGE, PATH)
    assert time.monotonic() - started < 30


def test_a_python_that_cannot_be_started_is_no_fault_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(StorageError, match="cannot be started"):
        ask_process(["print(1)"], IMAGE, PATH)


def test_secrets_of_the_environment_do_not_reach_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    script, seen = tmp_path / "child.py", tmp_path / "seen.txt"
    script.write_text(f"import os\nopen({str(seen)!r}, 'w').write(str(dict(os.environ)))\n", encoding="utf-8")
    monkeypatch.setattr(child, "__file__", str(script))
    with pytest.raises(StorageError):
        ask_process(["print(1)"], IMAGE, PATH)
    assert "OMP_NUM_THREADS" in seen.read_text("utf-8") and "secret" not in seen.read_text("utf-8")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_nothing_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    child_pid = tmp_path / "pid"
    script = f"""
import subprocess, pathlib
from PIL import Image
from p2r.programs import process
start = process._start
def keep():
    found = start()
    pathlib.Path({str(child_pid)!r}).write_text(str(found.pid))
    return found
process._start = keep
process.ask_process([{HEAVY!r}], Image.new("RGB", (400, 300)), "x.png")
"""
    source = str(Path(p2r.__file__).parents[1])
    parent = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": source})
    try:
        wait_until(lambda: child_pid.exists() and child_pid.read_text("utf-8") != "")
        pid = int(child_pid.read_text("utf-8"))
        assert is_running(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: not is_running(pid))
    finally:
        parent.kill()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
