"""A run's folder: taking hold of it, resuming it, and writing its logs.

recipe.json            every setting, defaults included; those of the last call
changes.jsonl          settings that calls before it had otherwise
metrics.jsonl          a row per step        probes.jsonl    a row per probe
rollouts.jsonl         one group of each step, word by word
checkpoints/           the last few states to resume from
best/                  the standard checkpoint with the best probe
0-perceiver/, ...      a standard checkpoint after each phase
evidence/              perceptions of the frozen perceiver, per reasoner phase
difficulty/            measurements of pre-rollouts, per phase
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from p2r.config import Phase, Recipe, load_recipe
from p2r.errors import ConfigError, StorageError, count_nouns, mask_secrets
from p2r.files import Log, explain_write_errors, lock_folder, read_lines, replace_file, unlock_folder
from p2r.runs.store import RECIPE_FILE, SETTINGS_FILE
from p2r.runs.training import METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE
from p2r.runs.training_log import LogRow, Probe, Step, read_rows
from p2r.training.engines.local.distributed import World
from p2r.training.state.changes import check_lengths, dump_settings, list_recipe_changes, record_changes
from p2r.training.state.checkpoint import Checkpoints, Position

LOG_FILES = (METRICS_FILE, PROBES_FILE, ROLLOUTS_FILE)


@dataclass(slots=True)
class RunFolder:
    """An open run.

    position: of its last checkpoint; None at the beginning.
    logs: by file name; only the first process writes.
    best: accuracy of the best probe so far, None before the first.
    remarks: sentences on what differs from the recipe of an earlier call.
    steps, probes: rows of the current phase so far.
    """

    folder: Path
    checkpoints: Checkpoints
    position: Position | None
    logs: Mapping[str, Log]
    best: float | None = None
    remarks: Sequence[str] = ()
    steps: list[Step] = field(default_factory=list[Step])
    probes: list[Probe] = field(default_factory=list[Probe])

    def write(self, file: str, row: LogRow) -> None:
        """Append a row to a log; only the first process does."""
        if file in self.logs:
            self.logs[file].write(row.model_dump(mode="json"))

    def log_bytes(self) -> dict[str, int]:
        return {file: log.sync() for file, log in self.logs.items()}

    def recall(self, phase: Phase) -> None:
        """Read the steps and probes of a phase back into `steps` and `probes`."""
        self.steps = [row for row in read_rows(self.folder / METRICS_FILE, Step) if row.phase == phase.name]
        self.probes = [row for row in read_rows(self.folder / PROBES_FILE, Probe) if row.phase == phase.name]

    def has_finished(self, phase: Phase) -> bool:
        """Tell whether an earlier call has finished the phase, and it has not been prolonged since."""
        done = self.position
        if done is None or not (self.folder / phase.name).is_dir():
            return False
        return done.phase != phase.index or phase.steps is None or done.step >= phase.steps

    def forget_end(self, phase: Phase) -> None:
        """Remove the checkpoint that the phase ended with before it was prolonged, since it has taken further steps."""
        with explain_write_errors(self.folder / phase.name):
            if (self.folder / phase.name).is_dir():
                shutil.rmtree(self.folder / phase.name)

    def process_folder(self, kind: str, phase: Phase, world: World) -> Path:
        """The folder in which this process keeps what it finds out about its own rows."""
        return self.folder / kind / (phase.name if world.size == 1 else f"{phase.name}.{world.rank}")


@contextmanager
def open_run(recipe: Recipe, *, resume: bool, world: World) -> Generator[RunFolder, None, None]:
    """Take hold of the recipe's folder.

    Raises:
        StorageError: it holds a run and `resume` is off, or another recipe's run, or no run to resume, or one whose
            recipe or checkpoints are gone; another process is writing it, or it cannot be written.
    """
    folder = recipe.out
    checkpoints = Checkpoints(folder / "checkpoints", recipe.checkpoint.keep_last, world)
    before: Recipe | None = None
    with ExitStack() as closing:
        if world.is_first:
            with explain_write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            closing.callback(unlock_folder, lock_folder(folder))
            before = _check_recipe(folder, recipe, resume=resume)
        world.wait()
        position = checkpoints.last_position() if resume else None
        logs: dict[str, Log] = {}
        best, remarks = position.best if position is not None else None, list[str]()
        if world.is_first:
            if resume and position is None:
                _check_nothing_is_lost(folder, before or recipe, recipe)
            if before is not None:
                remarks = check_lengths(before, recipe, position)
                if best is not None and not _has_same_probe(before, recipe):
                    best = None
                    remarks.append("the probe asks other questions now: best/ is chosen again")
                record_changes(folder, before, recipe, position)
            with explain_write_errors(folder):
                replace_file(folder / RECIPE_FILE, mask_secrets(recipe.model_dump_json(indent=2)) + "\n")
            kept = position.log_bytes if position is not None else {}
            logs = {file: closing.enter_context(Log(folder / file, num_bytes=kept.get(file, 0))) for file in LOG_FILES}
        world.wait()
        yield RunFolder(folder, checkpoints, position, logs, world.gather([best])[0], remarks)


def _check_recipe(folder: Path, recipe: Recipe, *, resume: bool) -> Recipe | None:
    """Compare the recipe with that of the run that is resumed, and return the latter; None for a new run."""
    path = folder / RECIPE_FILE
    metrics = folder / METRICS_FILE
    if not path.exists() and any(_has_contents(folder / file) for file in LOG_FILES):
        raise StorageError(
            f"{folder} has the logs of a run and no {RECIPE_FILE}",
            hint=f"put {RECIPE_FILE} back, or choose another `out`",
        )
    if not path.exists() and (folder / SETTINGS_FILE).exists():
        raise StorageError(f"{folder} holds what another command of p2r wrote", hint="choose another `out`")
    if not path.exists() or not _has_contents(metrics):
        if resume and not path.exists():
            raise StorageError(
                f"{folder} holds no run that could be resumed", hint="leave out `resume=True` to start one"
            )
        return None
    if not resume:
        raise StorageError(
            f"{folder} holds a run already", hint="continue it with `resume=True`, or choose another `out`"
        )
    try:
        before = load_recipe(path)
    except ConfigError as error:
        raise StorageError(
            f"the run in {folder} cannot be resumed: {error.message}",
            hint="resume it with the version of p2r that wrote it, or choose another `out`",
        ) from error
    changed = list_recipe_changes(dump_settings(before), dump_settings(recipe))
    if changed:
        raise StorageError(
            f"{folder} was trained with another recipe: {'; '.join(changed)}",
            hint="resume with the recipe of the run, or choose another `out`",
        )
    return before


def _has_same_probe(before: Recipe, now: Recipe) -> bool:
    """Tell whether the probe asks the same questions, however often."""
    return before.probe.model_copy(update={"every": now.probe.every}) == now.probe


def _has_contents(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _check_nothing_is_lost(folder: Path, before: Recipe, recipe: Recipe) -> None:
    """Refuse to start a run again that must have had a checkpoint.

    A run that was killed before its first checkpoint has logged at most `checkpoint.every` steps and finished no
    phase; it may have `best/`, which a probe before the first step writes. `checkpoint.every` may have been changed.
    """
    path = folder / METRICS_FILE
    num_steps = len(read_lines(path)) if path.exists() else 0
    every = max(recipe.checkpoint.every, before.checkpoint.every)
    if num_steps > every or any((folder / phase.name).is_dir() for phase in recipe.phases()):
        steps = count_nouns(num_steps, "step")
        raise StorageError(
            f"{folder} has {steps} in {METRICS_FILE} and no checkpoint to resume from",
            hint="put the checkpoints back, or choose another `out`",
        )
