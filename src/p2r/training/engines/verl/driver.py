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
from p2r.models.checkpoint import fingerprint_weights
from p2r.models.load import find_checkpoint
from p2r.runs.training import EVIDENCE_FOLDER
from p2r.training import keeper
from p2r.training.engines.verl.job import JOB_FILE, LOG_FILE, RECORDS, Job, Record, hand_over, take_over
from p2r.training.engines.verl.overrides import check_recipe, make_overrides
from p2r.training.failures import FailureGauge
from p2r.training.groups import RolloutStats
from p2r.training.phases import open_evidence
from p2r.training.rows.choose import load_rows, order_rows
from p2r.training.run import Training
from p2r.training.starts import Start, find_start
from p2r.training.watch.alarms import heed_guards, sound_alarms
from p2r.training.watch.metrics import measure_step
from p2r.types import Sample

FOLDER, OUTPUT_FILE, PROCESS_FILE = "verl", "output.log", "process.json"
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
            yield f"# phase {phase.name}"
            yield from self._tell(_plan(recipe, phase, Path(find_start(recipe, phase, recipe.out).active), data.rows))

    def _tell(self, job: Job) -> list[str]:
        return [*make_overrides(job, nodes=self.nodes, gpus=self.gpus), *self.arguments]

    async def run_phase(self, training: Training, phase: Phase, start: Start) -> None:
        """Train a phase, from its checkpoint or from where it was stopped, to the checkpoint that it leaves.

        Raises:
            ConfigError: verl cannot do what the recipe asks for.
            StorageError: the checkpoint of verl, from which it would continue, is gone.
            TooManyErrors: too many rollouts could not be judged.
            TrainingError: verl or the frozen role ended, or a guard stops the run.
        """
        check_recipe(training.recipe, self.nodes * self.gpus)
        rows, done = training.rows[phase.index].rows, training.run.position
        job = _plan(training.recipe, phase, find_checkpoint(start.active).folder, rows)
        if done is not None and done.phase == phase.index:
            job = replace(job, num_done=done.step)
            if not (last := job.checkpoint(done.step)).is_dir():
                hint = "leave out `engine` if p2r itself has trained the phase so far, or choose another `out`"
                raise StorageError(f"{last}, from which verl would continue, is not there", hint=hint)
        if job.num_done < job.num_steps:
            await self._train(training, job)
        with replace_folder(training.run.folder / phase.name) as draft:
            places = [f"--local_dir={job.checkpoint(job.num_steps) / 'actor'}", f"--target_dir={draft}"]
            await _run([MERGER, "merge", "--backend=fsdp", *places], job.folder)

    async def _train(self, training: Training, job: Job) -> None:
        """Serve the frozen role, and let verl take the steps that are left."""
        run, phase, steps = training.run, job.phase, f"steps {job.num_done + 1} to {job.num_steps}"
        training.say(f"phase {phase.name}: {steps}, from {job.source}, by verl: see {job.folder}")
        shutil.rmtree(job.folder / RECORDS, ignore_errors=True)
        (job.folder / LOG_FILE).unlink(missing_ok=True)
        async with job.open_partner() as partner:
            if phase.kind == "reasoner":
                folder = run.process_folder(EVIDENCE_FOLDER, phase, training.world)
                with open_evidence(job.recipe, phase, folder, partner, fingerprint_weights(job.source)) as store:
                    job = replace(job, evidence=await store.perceive_all(job.rows, phase.prompts_per_step))
            hand_over(job.folder / JOB_FILE, job)
            look = partial(_follow, training, job, FailureGauge(job.recipe.partner.max_error_rate))
            # It is left when the server of the frozen role has died for good.
            await partner.run([partial(_run, [TRAINER, *self._tell(job)], job.folder, look)])


def _plan(recipe: Recipe, phase: Phase, source: Path, rows: Sequence[Sample]) -> Job:
    """The job of a whole phase. Raises ConfigError when a step needs more rows."""
    places = order_rows(phase, len(rows)).take_steps(phase.prompts_per_step, phase.count_steps(len(rows)))
    folder = recipe.out.absolute() / FOLDER / phase.name
    return Job(recipe, phase, folder, source, [rows[place] for place in places])


async def _run(module: Sequence[str], folder: Path, look: Callable[[int | None], object] = lambda code: None) -> None:
    """Run a module of Python, and look every second and at its end, with its exit code. Raises TrainingError."""
    output, record, code = folder / OUTPUT_FILE, folder / PROCESS_FILE, None
    await asyncio.to_thread(keeper.end_recorded, record)
    with output.open("ab") as file:
        process = keeper.start(record, [sys.executable, "-m", *module], file)
    try:
        while code is None:
            await asyncio.sleep(LOOK_EVERY_S)
            code = process.poll()
            look(code)
    finally:
        keeper.end(process)
    if code:
        said = f"verl ended with code {code}: {keeper.last_words(output)}"
        raise TrainingError(said, hint=f"see {output}; then `resume=True`")


def _follow(training: Training, job: Job, failures: FailureGauge, code: int | None) -> None:
    """Write down the steps that verl has finished. code: how it has ended; None while it runs.

    Raises as `Verl.run_phase`.
    """
    log, steps = job.folder / LOG_FILE, training.run.steps
    for line in read_log(log) if log.exists() else []:
        if cast("int", line["step"]) > len(steps):
            _finish_step(training, job, failures, len(steps) + 1, cast("Mapping[str, float]", line["data"]))
    # A step without anything to learn from ends verl, and is in no log.
    records = _read_records(job, len(steps) + 1) if code else []
    is_whole = len(records) == job.phase.prompts_per_step
    if is_whole and all(group.is_dropped for record in records for group in record.facts):
        failures.load([outcome for record in records for outcome in record.outcomes])
        failures.check(at_least=1)


def _finish_step(training: Training, job: Job, failures: FailureGauge, step: int, metrics: Mapping[str, float]) -> None:
    phase, records, stats = job.phase, _read_records(job, step), RolloutStats()
    for record in records:
        stats.add(record.stats)
        failures.count(record.outcomes)
    num_lost = (phase.prompts_per_step - len(records)) * phase.rollout.group_size
    failures.count(["a worker of verl failed"] * num_lost)
    facts = [group for record in records for group in record.facts]
    timing = {name.removeprefix(TIMING): metrics[name] for name in metrics if name.startswith(TIMING)}
    timing["seconds"] = timing.pop("step", 0.0)
    row = measure_step(phase.name, step, facts, stats, None, phase.lr, timing)
    known = {ours: metrics[theirs] for ours, theirs in NAMES.items() if theirs in metrics}
    training.log_step(row.model_copy(update=known), job.num_steps)
    for quoted in [quoted for record in records for quoted in record.quoted][:1]:
        training.log_group(quoted)
    shutil.rmtree(job.records(step), ignore_errors=True)
    failures.check()
    # verl has a checkpoint of these steps.
    if step % job.recipe.checkpoint.every == 0 or step == job.num_steps:
        training.saved = training.position_after(phase, step, WRITER)
        training.run.checkpoints.save(training.saved, None)
    heed_guards(job.recipe, phase, step, sound_alarms(training))


def _read_records(job: Job, step: int) -> list[Record]:
    return [take_over(path) for path in sorted(job.records(step).glob("*.pickle"))]
