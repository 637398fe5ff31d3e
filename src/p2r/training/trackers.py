"""Where a run's figures go: JSON lines always; TensorBoard, trackio or W&B when the recipe says so.

A log is part of the run's state: a checkpoint remembers its length, and a resumed run cuts off what came after.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType

from pydantic import JsonValue

from p2r.config import TrackerSettings
from p2r.errors import ConfigError, StorageError
from p2r.evaluation.store import explain_write_errors

RECIPE_FILE, METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE = "recipe.json", "metrics.jsonl", "probes.jsonl", "rollouts.jsonl"

Row = Mapping[str, JsonValue]


class Log:
    """A file of JSON lines. Use as a context manager.

    num_bytes: what is kept of a file that is there already.

    Raises:
        StorageError: it cannot be written, or is shorter than that.
    """

    def __init__(self, path: Path, num_bytes: int = 0) -> None:
        self.path = path
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            num_there = self._file.tell()
            self._file.truncate(min(num_bytes, num_there))
        if num_there < num_bytes:
            raise StorageError(
                f"{path} has {num_there} bytes, and had {num_bytes} when the last checkpoint was written",
                hint="put the whole file back, or start anew in another out",
            )

    def write(self, row: Row) -> None:
        with explain_write_errors(self.path):
            self._file.write(json.dumps(dict(row), ensure_ascii=False).encode() + b"\n")
            self._file.flush()

    def sync(self) -> int:
        """Force what was written onto the disk; the file's length."""
        with explain_write_errors(self.path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def read_log(path: Path) -> list[dict[str, JsonValue]]:
    """The rows of a log; a last line that has no end yet is left out.

    Raises:
        StorageError: no such file, or a line is broken.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return [json.loads(line) for line in lines]
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise StorageError(f"{path} is not a log of a run: {error}") from error


Send = Callable[[Mapping[str, float], int], None]


class Trackers:
    """The recipe's trackers; figures are sent by name and step of the run. Use as a context manager.

    settings: None for no tracker at all, as in all processes but the first.
    first_step: of those that follow; what a tracker knows beyond it is forgotten where it can forget.

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

    def send(self, figures: Row, step: int) -> None:
        """Send what is a number; nested figures by names such as timing/rollout."""
        numbers = dict(_flatten(figures))
        for send in self._sends:
            send(numbers, step)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.close()


def _send_scalars(add_scalar: Callable[[str, float, int], object], figures: Mapping[str, float], step: int) -> None:
    for name, value in figures.items():
        add_scalar(name, value, step)


def _require(package: str, setting: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"trackers.{setting} is on, and {package} is not installed",
            hint=f"pip install {package}, or trackers.{setting} = false: metrics.jsonl is always written",
        )


def _flatten(row: Row, prefix: str = "") -> list[tuple[str, float]]:
    numbers: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, dict):
            numbers += _flatten(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers.append((prefix + name, float(value)))
    return numbers
