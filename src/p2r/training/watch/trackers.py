"""Trackers: TensorBoard, trackio or W&B, when the recipe asks for them. The JSON lines are always written.

A run has a random name of its own, kept in its folder, so that a resumed run continues in the tracker's and another run
of an equally named folder does not. Each tracker gets the recipe, the metrics, and the rollouts of one group of each
step as a table or, in TensorBoard, as text.
"""

# The trackers are typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import importlib
import importlib.util
import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol

from p2r.config import Recipe
from p2r.errors import ConfigError, mask_secrets
from p2r.files import JsonRow, replace_file
from p2r.runs.training_log import QuotedGroup

ID_FILE = "tracker_id.txt"
COLUMNS = ("phase", "step", "sample", "question", "reply", "boxes", "answer", "reward", "advantage")
MOST_ROLLOUTS = 8
"""Rollouts of a step that are sent."""
MOST_CHARS = 2000
"""Characters of a reply that are sent."""

Cell = str | float | None


class Tracker(Protocol):
    """One place that a run is sent to."""

    def send(self, numbers: Mapping[str, float], step: int) -> None: ...

    def send_rollouts(self, rows: Sequence[Sequence[Cell]], step: int) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """The recipe's trackers; metrics are sent by name and step of the run. Use as a context manager.

    recipe: None for no tracker at all, as in all processes but the first.
    first_step: steps done before; a tracker that can forget drops what it knows beyond them.

    Raises:
        ConfigError: a tracker's package is not installed.
    """

    def __init__(self, recipe: Recipe | None, run: Path, *, first_step: int) -> None:
        self._closing = ExitStack()
        self._trackers: list[Tracker] = []
        if recipe is None:
            return
        settings = recipe.trackers
        for name in ("tensorboard", "trackio", "wandb"):
            if getattr(settings, name) and importlib.util.find_spec(name) is None:
                raise ConfigError(
                    f"trackers.{name} is on, and {name} is not installed",
                    hint=f"pip install {name}, or trackers.{name} = false: metrics.jsonl is always written",
                )
        config: dict[str, Any] = json.loads(mask_secrets(recipe.model_dump_json()))
        if settings.tensorboard:
            self._add(_TensorBoard(run, config, first_step))
        if settings.trackio:
            self._add(_Hosted(importlib.import_module("trackio"), settings.project, run, config))
        if settings.wandb:
            self._add(_Hosted(importlib.import_module("wandb"), settings.project, run, config))

    def _add(self, tracker: Tracker) -> None:
        self._trackers.append(tracker)
        self._closing.callback(tracker.close)

    def send(self, metrics: JsonRow, step: int) -> None:
        """Send what is a number; nested metrics by names such as timing/rollout."""
        numbers = dict(_flatten(metrics))
        for tracker in self._trackers:
            tracker.send(numbers, step)

    def send_group(self, group: QuotedGroup, step: int) -> None:
        """Send the first rollouts of a group, word by word."""
        if not self._trackers:
            return
        rows = _tabulate(group)
        for tracker in self._trackers:
            tracker.send_rollouts(rows, step)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.close()


class _TensorBoard:
    """Event files in the run's folder."""

    def __init__(self, run: Path, config: Mapping[str, Any], first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=first_step)
        self._writer.add_text("recipe", f"```json\n{json.dumps(config, indent=2)}\n```", first_step)

    def send(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def send_rollouts(self, rows: Sequence[Sequence[Cell]], step: int) -> None:
        lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
        cells = [["" if cell is None else str(cell) for cell in line] for line in lines]
        escaped = [[cell.replace("|", "\\|").replace("\n", "<br>") for cell in line] for line in cells]
        self._writer.add_text("rollouts", "\n".join(f"| {' | '.join(line)} |" for line in escaped), step)

    def close(self) -> None:
        self._writer.close()


class _Hosted:
    """W&B, or trackio, which has the same functions."""

    def __init__(self, package: ModuleType, project: str, run: Path, config: Mapping[str, Any]) -> None:
        self._package, is_wandb = package, package.__name__ == "wandb"
        name = f"{run.name}-{read_id(run)}"
        own = {"id": read_id(run)} if is_wandb else {}  # trackio knows a run by its name
        shown = run.name if is_wandb else name
        self._package.init(project=project, name=shown, resume="allow", config=dict(config), **own)

    def send(self, numbers: Mapping[str, float], step: int) -> None:
        self._package.log(dict(numbers), step=step)

    def send_rollouts(self, rows: Sequence[Sequence[Cell]], step: int) -> None:
        columns, data = list(COLUMNS), [list(row) for row in rows]
        if self._package.__name__ == "wandb":
            self._package.log({"rollouts": self._package.Table(columns=columns, data=data)}, step=step)
        elif hasattr(self._package, "Table"):
            import pandas  # pyright: ignore[reportMissingImports, reportMissingTypeStubs]  # comes with trackio

            frame = pandas.DataFrame(data, columns=columns)
            self._package.log({"rollouts": self._package.Table(dataframe=frame)}, step=step)

    def close(self) -> None:
        self._package.finish()


def read_id(run: Path) -> str:
    """The run's random name, drawn when it is read for the first time."""
    path = run / ID_FILE
    if not path.exists():
        replace_file(path, secrets.token_hex(4) + "\n")
    return path.read_text(encoding="utf-8").strip()


def _tabulate(group: QuotedGroup) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for rollout in group.rollouts[:MOST_ROLLOUTS]:
        trace = rollout.trace
        boxes = [[round(side) for side in (box.x1, box.y1, box.x2, box.y2)] for box in trace.boxes] if trace else []
        question, answer = (trace.question, trace.answer.text if trace.answer else None) if trace else ("", None)
        facts: list[Cell] = [group.phase, group.step, group.sample_id, question, rollout.text[:MOST_CHARS]]
        rows.append([*facts, json.dumps(boxes), answer, rollout.reward, rollout.advantage])
    return rows


def _flatten(row: JsonRow, prefix: str = "") -> list[tuple[str, float]]:
    numbers: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, dict):
            numbers += _flatten(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers.append((prefix + name, float(value)))
    return numbers
