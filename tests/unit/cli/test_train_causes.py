"""The lines of `p2r train`, without a terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.progress import Progress

from p2r.cli.train import _Lines
from p2r.runs.training import Step


def test_a_step_says_why_rollouts_are_left_out() -> None:
    written = StringIO()
    console = Console(file=written, width=200)
    lines = _Lines(console, Progress(console=console))
    lines.step(Step(phase="0-perceiver", step=2, failures={"the server has gone": 3, "it cannot tell": 1}), 9)
    lines.step(Step(phase="0-perceiver", step=3, failures={"it cannot tell": 1}), 9)
    lines.step(Step(phase="0-perceiver", step=4), 9)
    said = [line.rstrip() for line in written.getvalue().splitlines() if "left out" in line]
    assert said == [
        "0-perceiver 2/9: 3 rollouts are left out because the server has gone",
        "0-perceiver 3/9: 1 rollout is left out because it cannot tell",
    ]
