"""Trains the phases of a run by verl: for each, the frozen role is served, verl runs, and its weights are merged.

A run leaves what every run leaves: verl's workers tell what became of each row, verl logs each step, and
both make a step of our log. A run is resumed from the last checkpoint of verl whose step was written down.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from p2r.config import Phase, Recipe
from p2r.errors import ConfigError, StorageError, TrainingError
from p2r.files import read_log, replace_folder
from p2r.models.checkpoint import fingerprint_weights, open_checkpoint
from p2r.models.load import find_checkpoint
from p2r.runs.training import EVIDENCE_FOLDER
from p2r.training import keeper
from p2r.training.engines.local.policy import training_profile
from p2r.training.engines.verl.job import Job, Record, hand_over, records_of, take_over
from p2r.training.engines.verl.overrides import LOG_FILE, check_recipe, make_overrides, partner_settings
from p2r.training.failures import FailureGauge
from p2r.training.groups import RolloutStats
from p2r.training.partner import Unasked, open_partner
from p2r.training.phases import open_evidence
from p2r.training.rows.choose import load_rows, order_rows
from p2r.training.run import Training
from p2r.training.starts import Start, find_start
from p2r.training.watch.alarms import recall_alarms, review_phase, sound_alarms, stop_by_guard
from p2r.training.watch.metrics import measure_step

FOLDER, OUTPUT_FILE, RECORD_FILE, JOB_FILE = "verl", "output.log", "process.json", "job.pickle"
TRAINER, MERGER, WRITER = "verl.trainer.main_ppo", "verl.model_merger", "verl 0.9.1"
LOOK_EVERY_S = 1.0
NAMES = {
    "loss": "actor/loss",
    "policy": "actor/pg_loss",
    "kl": "actor/kl_loss",
    "entropy": "actor/entropy",
    "clip_share": "actor/pg_clipfrac",
    "grad_norm": "actor/grad_norm",
    "lr": "actor/lr",
    "sampler_diff": "training/rollout_probs_diff_mean",
    "sampler_diff_max": "training/rollout_probs_diff_max",
}
"""The names that verl gives to the metrics of a step, by ours."""
TIMING = "timing_s/"


@dataclass(frozen=True, slots=True)
class Verl:
    """verl as the engine of `train`. nodes: machines of its Ray cluster. gpus: of each. arguments: more overrides."""

    nodes: int = 1
    gpus: int = 1
    arguments: Sequence[str] = ()

    def check(self, recipe: Recipe) -> None:
        """Refuse what verl cannot do. Raises ConfigError."""
        check_recipe(recipe, self.nodes * self.gpus)
        if find_spec("verl") is None:
            raise ConfigError("verl is not installed here", hint="docs/guides/scale.md says how to")

    def describe(self, recipe: Recipe) -> Iterator[str]:
        """The overrides of each phase of a new run, line by line."""
        check_recipe(recipe, self.nodes * self.gpus)
        for phase, data in zip(recipe.phases(), load_rows(recipe).values(), strict=True):
            source, num_steps = Path(find_start(recipe, phase, recipe.out).active), phase.count_steps(len(data.rows))
            yield f"# phase {phase.name}"
            yield from self._tell(Job(recipe, phase, source, num_steps), _job_path(recipe.out, phase))

    def _tell(self, job: Job, path: Path, resume_from: Path | None = None) -> list[str]:
        told = make_overrides(job, path, nodes=self.nodes, gpus=self.gpus, resume_from=resume_from)
        return [*told, *self.arguments]

    async def run_phase(self, training: Training, phase: Phase, start: Start) -> None:
        """Train a phase, from its checkpoint or from where it was stopped, to the checkpoint that it leaves."""
        check_recipe(training.recipe, self.nodes * self.gpus)
        recall_alarms(training, phase)
        rows, path = training.rows[phase.index].rows, _job_path(training.run.folder, phase)
        num_steps, resume_from = phase.count_steps(len(rows)), _find_last(training, phase, path)
        last = path.with_name(f"global_step_{num_steps}")
        if resume_from != last:
            source = find_checkpoint(start.active).folder
            asked = order_rows(phase, len(rows)).take_steps(phase.prompts_per_step, num_steps)
            job = Job(training.recipe, phase, source, num_steps, [rows[place] for place in asked])
            await self._train(training, job, path, resume_from)
        with replace_folder(training.run.folder / phase.name) as draft:
            places = [f"--local_dir={last / 'actor'}", f"--target_dir={draft}"]
            await _run([MERGER, "merge", "--backend=fsdp", *places], path.parent)
        review_phase(training, phase)

    async def _train(self, training: Training, job: Job, path: Path, resume_from: Path | None) -> None:
        """Serve the frozen role, and let verl take the steps that are left."""
        recipe, run, phase, start = job.recipe, training.run, job.phase, resume_from or job.source
        training.say(f"phase {phase.name}: to step {job.num_steps}, from {start}, by verl: see {path.parent}")
        shutil.rmtree(records_of(path, 0).parent, ignore_errors=True)
        path.with_name(LOG_FILE).unlink(missing_ok=True)
        profile = training_profile(open_checkpoint(job.source), recipe.model.max_pixels, recipe.model.frame)
        settings, local = partner_settings(recipe, phase), Unasked(profile)
        async with open_partner(settings, local, job.source, run.folder) as partner:
            if phase.kind == "reasoner":
                folder = run.process_folder(EVIDENCE_FOLDER, phase, training.world)
                with open_evidence(recipe, phase, folder, partner, fingerprint_weights(job.source)) as store:
                    job = replace(job, evidence=await store.perceive_all(job.rows, phase.prompts_per_step))
            hand_over(path, job)
            command, log = [TRAINER, *self._tell(job, path, resume_from)], _StepLog(training, job, path)
            # It is left when the server of the frozen role has died for good.
            await partner.run([partial(_run, command, path.parent, log.read)])


def _job_path(folder: Path, phase: Phase) -> Path:
    return folder.absolute() / FOLDER / phase.name / JOB_FILE


def _find_last(training: Training, phase: Phase, job: Path) -> Path | None:
    """The checkpoint of verl from which a phase continues; None at its beginning. Raises StorageError."""
    done = training.run.position
    if done is None or done.phase != phase.index:
        return None
    training.saved, last = done, job.with_name(f"global_step_{done.step}")
    if not last.is_dir():
        hint = "leave out `engine` if p2r itself has trained the phase so far, or choose another `out`"
        raise StorageError(f"{last}, from which verl would continue, is not there", hint=hint)
    return last


async def _run(module: Sequence[str], folder: Path, look: Callable[[int | None], object] = lambda code: None) -> None:
    """Run a module of Python, and look every second and at its end, with its exit code. Raises TrainingError."""
    output, record = folder / OUTPUT_FILE, folder / RECORD_FILE
    await asyncio.to_thread(keeper.end_recorded, record)
    with output.open("ab") as file:
        process = keeper.start(record, [sys.executable, "-m", *module], file)
    try:
        while (code := process.poll()) is None:
            look(code)
            await asyncio.sleep(LOOK_EVERY_S)
        look(code)
    finally:
        keeper.end(process)
    if code:
        said = f"verl ended with code {code}: {keeper.last_words(output)}"
        raise TrainingError(said, hint=f"see {output}; then `resume=True`")


class _StepLog:
    """Follows the steps of a phase as verl takes them. The failures of an earlier call do not count."""

    def __init__(self, training: Training, job: Job, path: Path) -> None:
        self._training, self._job, self._path = training, job, path
        self._failures = FailureGauge(job.recipe.partner.max_error_rate)
        self._num_read = 0

    def read(self, code: int | None) -> None:
        """Write down the steps that verl has finished since the last call.

        Args:
            code: how verl has ended; None while it runs.

        Raises:
            TooManyErrors: too many rollouts could not be judged.
            TrainingError: a guard stops the run.
        """
        log = self._path.with_name(LOG_FILE)
        for line in read_log(log)[self._num_read :] if log.exists() else []:
            self._num_read += 1
            self._finish(cast("int", line["step"]), cast("Mapping[str, float]", line["data"]))
        if not code:
            return
        # A step without anything to learn from ends verl, and is in no log.
        records = [take_over(path, Record) for path in records_of(self._path, 0).parent.rglob("*.pickle")]
        is_whole = len(records) == self._job.phase.prompts_per_step
        if is_whole and all(group.is_dropped for record in records for group in record.facts):
            self._failures.load([outcome for record in records for outcome in record.outcomes])
            self._failures.check(at_least=1)

    def _finish(self, step: int, metrics: Mapping[str, float]) -> None:
        training, phase, folder = self._training, self._job.phase, records_of(self._path, step)
        records, stats = [take_over(path, Record) for path in sorted(folder.glob("*.pickle"))], RolloutStats()
        for record in records:
            stats.add(record.stats)
            self._failures.count(record.outcomes)
        num_lost = (phase.prompts_per_step - len(records)) * phase.rollout.group_size
        self._failures.count(["a worker of verl failed"] * num_lost)
        facts = [group for record in records for group in record.facts]
        timing = {name.removeprefix(TIMING): metrics[name] for name in metrics if name.startswith(TIMING)}
        timing["seconds"] = timing.pop("step", 0.0)
        row = measure_step(phase.name, step, facts, stats, None, phase.lr, timing)
        known = {ours: metrics[theirs] for ours, theirs in NAMES.items() if theirs in metrics}
        training.log_step(row.model_copy(update=known), self._job.num_steps)
        for quoted in [record.quoted for record in records if record.quoted is not None][:1]:
            training.log_group(quoted)
        shutil.rmtree(folder, ignore_errors=True)
        self._failures.check()
        # verl has a checkpoint of these steps.
        if step % training.recipe.checkpoint.every == 0 or step == self._job.num_steps:
            training.saved = training.position_after(phase, step, WRITER)
            training.run.checkpoints.save(training.saved, None)
        collapse = sound_alarms(training)
        if collapse and training.recipe.guards.action == "stop":
            raise stop_by_guard(phase, step, collapse)
