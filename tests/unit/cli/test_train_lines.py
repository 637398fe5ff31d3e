"""The line that `p2r train` prints for a step."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from p2r.cli.screen import progress
from p2r.cli.train import _Lines
from p2r.runs.training_log import Step


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        (
            {"loss": 0, "reward": 0.5, "num_groups": 4, "num_rows": 4, "num_rollouts": 32},
            "0-perceiver 1/3  reward 0.500",
        ),
        (
            {
                "loss": 0,
                "reward": 0.5,
                "num_groups": 4,
                "num_rows": 4,
                "num_failed_rows": 1,
                "num_rollouts": 24,
                "num_unjudged": 3,
            },
            "0-perceiver 1/3  reward 0.500  1 of 4 rows failed  3 of 24 rollouts not judged",
        ),
        ({"num_rows": 1, "num_failed_rows": 1}, "0-perceiver 1/3  1 of 1 row failed  nothing to learn from"),
        ({"num_rows": 64}, "0-perceiver 1/3  nothing to learn from"),
        ({"num_rows": 4, "num_learned_tokens": 90, "loss": 1.5}, "0-perceiver 1/3  loss 1.500"),
        # All groups are dead without a KL term, or all replies were cut off and are masked.
        ({"reward": 0.5, "num_groups": 4}, "0-perceiver 1/3  reward 0.500  nothing to learn from"),
        # Of the groups that dynamic sampling keeps none is dead; of those that it drew, some are.
        ({"loss": 0, "num_groups": 2, "dead_groups": 0, "drawn_dead_groups": 0.75}, "0-perceiver 1/3  dead 0.750"),
    ],
)
def test_a_step_s_line_says_what_failed(metrics: dict[str, float], line: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    with progress(console, field="metrics", is_shown=False) as bars:
        _Lines(console, bars).step(Step.model_validate({"phase": "0-perceiver", "step": 1, **metrics}), 3)
    assert console.file.getvalue().strip() == line  # type: ignore[attr-defined]


def test_a_step_says_why_rollouts_are_left_out() -> None:
    written = io.StringIO()
    console = Console(file=written, width=200)
    with progress(console, field="metrics", is_shown=False) as bars:
        lines = _Lines(console, bars)
        lines.step(Step(phase="0-perceiver", step=2, failures={"the server has gone": 3, "it cannot tell": 1}), 9)
        lines.step(Step(phase="0-perceiver", step=3, failures={"it cannot tell": 1}), 9)
        lines.step(Step(phase="0-perceiver", step=4), 9)
    said = [line.rstrip() for line in written.getvalue().splitlines() if "left out" in line]
    assert said == [
        "0-perceiver 2/9: 3 rollouts are left out because the server has gone",
        "0-perceiver 3/9: 1 rollout is left out because it cannot tell",
    ]
