"""Every script of benchmarks and recipes starts as a module from the root, and says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    path.relative_to(ROOT)
    for folder in ("benchmarks", "recipes")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
]
MODULES = [".".join(path.with_suffix("").parts) for path in SCRIPTS]


@pytest.mark.parametrize("module", MODULES)
def test_a_script_shows_how_it_is_started(module: str) -> None:
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    assert f"python -m {module} " in path.read_text(encoding="utf-8").split('"""')[1]


START_ALL = """
import json, runpy, sys
from contextlib import redirect_stdout
from io import StringIO
started = {}
for module in sys.argv[1:]:
    sys.argv, said = [module, "--help"], StringIO()
    try:
        with redirect_stdout(said):
            runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        started[module] = [end.code, said.getvalue()]
print(json.dumps(started))
"""


@pytest.mark.slow
def test_every_script_starts() -> None:
    """In one process, because what takes long is to import what they share."""
    command = [sys.executable, "-c", START_ALL, *MODULES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    started = json.loads(done.stdout)
    assert [*started] == MODULES
    for module, (code, said) in started.items():
        assert code == 0 and said.startswith("usage: "), module
