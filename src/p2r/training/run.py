"""A run under way: what it was given, where it is kept, who is told of it, and how far it has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from p2r.config import Phase, Recipe
from p2r.runs.training import METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE
from p2r.runs.training_log import Probe, QuotedGroup, Step
from p2r.training.engines.local.distributed import World
from p2r.training.rows.check import TrainingData
from p2r.training.sft.demonstrations import Demonstrations
from p2r.training.starts import Start
from p2r.training.state.checkpoint import Position
from p2r.training.state.last_step import LastStep
from p2r.training.state.run_folder import RunFolder
from p2r.training.stopping import StopRequest
from p2r.training.watch.frames import FrameWatch
from p2r.training.watch.trackers import Trackers
from p2r.training.watch.watcher import Watcher
from p2r.types import Sample


@dataclass(slots=True)
class Training:
    """A run under way.

    rows: the rows of each phase that rewards, by its index. demonstrations: those of each supervised phase.
    run_step: steps done in all phases. row_position: in the phase's order of rows. best: accuracy of the best probe.
    alarms: the guards that see something in the phase so far.
    last: the state as of the last finished step. saved: the last checkpoint of this call, or what it began with.
    """

    recipe: Recipe
    world: World
    watcher: Watcher
    run: RunFolder
    trackers: Trackers
    stop: StopRequest
    rows: Mapping[int, TrainingData]
    demonstrations: Mapping[int, Demonstrations]
    probed: Sequence[Sample]
    run_step: int = 0
    row_position: int = 0
    best: float | None = None
    alarms: set[str] = field(default_factory=set[str])
    frames: FrameWatch = field(default_factory=FrameWatch)
    last: LastStep | None = None
    saved: Position | None = None

    def say(self, text: str) -> None:
        """Tell the watcher a sentence, once for all processes."""
        if self.world.is_first:
            self.watcher.say(text)

    def log_step(self, row: Step, num_steps: int) -> None:
        """Write down a step of a phase of so many steps, and tell everyone of it."""
        self.run_step += 1
        self.run.steps.append(row)
        self.run.write(METRICS_FILE, row)
        self.trackers.send(row.model_dump(mode="json"), self.run_step)
        if self.world.is_first:
            self.watcher.step(row, num_steps)

    def log_group(self, row: QuotedGroup) -> None:
        """Write down a group of the last step, word by word, and send it to trackers."""
        self.run.write(ROLLOUTS_FILE, row)
        self.trackers.send_group(row, self.run_step)

    def position_after(self, phase: Phase, step: int, model: str, *, is_probed: bool = True) -> Position:
        """The point that is reached when so many steps of a phase are done. model, is_probed: see `Position`."""
        return Position(
            phase=phase.index,
            step=step,
            run_step=self.run_step,
            row_position=self.row_position,
            model=model,
            num_processes=self.world.size,
            log_bytes=self.run.log_bytes(),
            best=self.best,
            is_probed=is_probed,
        )

    def log_probe(self, row: Probe) -> None:
        """Write down a probe, and tell everyone of it."""
        self.run.probes.append(row)
        self.run.write(PROBES_FILE, row)
        self.trackers.send({"probe": row.model_dump(mode="json", exclude={"phase", "step"})}, self.run_step)
        if self.world.is_first:
            self.watcher.probe(row)


RunPhase: TypeAlias = Callable[[Training, Phase, Start], Awaitable[None]]
"""Trains a phase, from the checkpoint that it starts from to the one that it leaves."""
