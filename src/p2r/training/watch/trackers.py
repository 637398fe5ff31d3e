"""Trackers: TensorBoard, trackio or W&B, when the recipe asks for them. The JSON lines are always written."""

# The trackers are typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownLambdaType=false

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType

from p2r.config import TrackerSettings
from p2r.errors import ConfigError
from p2r.files import JsonRow

Send = Callable[[Mapping[str, float], int], None]


class Trackers:
    """The recipe's trackers; metrics are sent by name and step of the run. Use as a context manager.

    settings: None for no tracker at all, as in all processes but the first.
    first_step: steps done before; a tracker that can forget drops what it knows beyond them.

    Raises:
        ConfigError: a tracker's package is not installed.
    """

    def __init__(self, settings: TrackerSettings | None, run: Path, *, first_step: int) -> None:
        self._closing = ExitStack()
        self._sends: list[Send] = []
        if settings is None:
            return
        if settings.tensorboard:
            _require("tensorboard", "tensorboard")
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(run / "tensorboard"), purge_step=first_step)
            self._closing.callback(writer.close)
            self._sends.append(partial(_send_scalars, writer.add_scalar))
        if settings.trackio:
            _require("trackio", "trackio")
            import trackio  # pyright: ignore[reportMissingImports]

            trackio.init(project=settings.project, name=run.name, resume="allow")
            self._closing.callback(trackio.finish)
            self._sends.append(lambda row, step: trackio.log(dict(row), step=step))
        if settings.wandb:
            _require("wandb", "wandb")
            import wandb  # pyright: ignore[reportMissingImports]

            wandb.init(project=settings.project, name=run.name, id=run.name, resume="allow")
            self._closing.callback(wandb.finish)
            self._sends.append(lambda row, step: wandb.log(dict(row), step=step))

    def send(self, metrics: JsonRow, step: int) -> None:
        """Send what is a number; nested metrics by names such as timing/rollout."""
        numbers = dict(_flatten(metrics))
        for send in self._sends:
            send(numbers, step)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.close()


def _send_scalars(add_scalar: Callable[[str, float, int], object], metrics: Mapping[str, float], step: int) -> None:
    for name, value in metrics.items():
        add_scalar(name, value, step)


def _require(package: str, setting: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"trackers.{setting} is on, and {package} is not installed",
            hint=f"pip install {package}, or trackers.{setting} = false: metrics.jsonl is always written",
        )


def _flatten(row: JsonRow, prefix: str = "") -> list[tuple[str, float]]:
    numbers: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, dict):
            numbers += _flatten(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers.append((prefix + name, float(value)))
    return numbers
