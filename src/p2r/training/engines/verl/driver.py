"""Trains the phases of a run by verl: for each, the frozen role is served, verl runs, and its weights are merged.

A run leaves what every run leaves: verl's workers tell what became of each row, verl logs each step, and
both make a step of our log. A run is resumed from the last checkpoint of verl whose step was written down.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from p2r.config import Phase, Recipe
from p2r.errors import ConfigError, StorageError, TrainingError, excerpt
from p2r.files import read_log, replace_folder
from p2r.images.budget import FullImage
from p2r.models.checkpoint import Checkpoint, fingerprint_weights
from p2r.models.load import find_checkpoint
from p2r.prompts import load_prompt_set
from p2r.runs.training import EVIDENCE_FOLDER, ROLLOUTS_FILE
from p2r.training import keeper
from p2r.training.engines.local.policy import training_profile
from p2r.training.engines.verl.job import Job, Record, hand_over, records_of, take_over
from p2r.training.engines.verl.overrides import LOG_FILE, check_recipe, make_overrides, partner_settings
from p2r.training.failures import FailureGauge
from p2r.training.groups import RolloutStats
from p2r.training.lockstep import Partner
from p2r.training.partner import Unasked, open_partner
from p2r.training.phases import open_evidence
from p2r.training.rows.choose import load_rows, order_rows
from p2r.training.run import Training
from p2r.training.starts import Start, find_start
from p2r.training.state.checkpoint import Position
from p2r.training.watch.alarms import recall_alarms, review_phase, sound_alarms, stop_by_guard
from p2r.training.watch.metrics import measure_step
from p2r.types import Sample, Trace

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
    "sampler_diff": "training/rollout_probs_diff_mean",
    "sampler_diff_max": "training/rollout_probs_diff_max",
}
"""The names that verl gives to the metrics of a step, by ours."""
Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verl:
    """verl as the engine of `train`. nodes: machines of its Ray cluster. gpus: of each. arguments: more overrides."""

    nodes: int = 1
    gpus: int = 1
    arguments: Sequence[str] = ()

    def check(self, recipe: Recipe) -> None:
        """Refuse what verl cannot do. Raises ConfigError."""
        check_recipe(recipe)
        if find_spec("verl") is None:
            raise ConfigError("verl is not installed here", hint="docs/guides/scale.md says how to")

    def describe(self, recipe: Recipe) -> Iterator[str]:
        """The overrides of each phase of a new run, line by line."""
        check_recipe(recipe)
        for phase, data in zip(recipe.phases(), load_rows(recipe).values(), strict=True):
            source, num_steps = Path(find_start(recipe, phase, recipe.out).active), phase.count_steps(len(data.rows))
            yield f"# phase {phase.name}"
            yield from make_overrides(recipe, phase, source, _job_path(recipe.out, phase), num_steps)
            yield from self._machines

    @property
    def _machines(self) -> list[str]:
        return [f"trainer.nnodes={self.nodes}", f"trainer.n_gpus_per_node={self.gpus}", *self.arguments]

    async def run_phase(self, training: Training, phase: Phase, start: Start) -> None:
        """Train a phase, from its checkpoint or from where it was stopped, to the checkpoint that it leaves."""
        recipe, run, rows = training.recipe, training.run, training.rows[phase.index].rows
        check_recipe(recipe)
        recall_alarms(training, phase)
        checkpoint, job = find_checkpoint(start.active), _job_path(run.folder, phase)
        num_done, num_steps, done = 0, phase.count_steps(len(rows)), run.position
        if done is not None and done.model != WRITER:
            raise StorageError(f"{run.folder} was not trained by verl", hint="leave out `engine`, or change `out`")
        if done is not None and done.phase == phase.index:
            num_done, training.saved = done.step, done
        last, resume_from = (job.parent / f"global_step_{step}" for step in (num_steps, num_done))
        if num_done and not resume_from.is_dir():
            raise StorageError(f"{resume_from}, from which the run continues, is gone", hint="choose another `out`")
        if num_done < num_steps:
            output = job.with_name(OUTPUT_FILE)
            training.say(f"phase {phase.name}: steps {num_done + 1} to {num_steps} by verl; see {output}")
            shutil.rmtree(records_of(job, 0).parent, ignore_errors=True)
            job.with_name(LOG_FILE).unlink(missing_ok=True)
            profile = training_profile(checkpoint, recipe.model.max_pixels, recipe.model.frame)
            settings, order = partner_settings(recipe, phase), order_rows(phase, len(rows))
            asked, position = list[Sample](), 0
            for _ in range(num_steps):
                places, position = order.take(position, phase.prompts_per_step)
                asked += [rows[place] for place in places]
            async with open_partner(settings, Unasked(profile), checkpoint.folder, run.folder) as partner:
                evidence = await _look(recipe, phase, asked, partner, checkpoint, run.folder)
                hand_over(job, Job(recipe, phase, checkpoint.folder, asked, evidence))
                continued = resume_from if num_done else None
                overrides = make_overrides(recipe, phase, checkpoint.folder, job, num_steps, continued)
                command, log = [TRAINER, *overrides, *self._machines], _StepLog(training, phase, job, num_steps)
                # It is left when the server of the frozen role has died for good.
                await partner.run([partial(_run, command, job.parent, log.look)])
        with replace_folder(run.folder / phase.name) as draft:
            places = [f"--local_dir={last / 'actor'}", f"--target_dir={draft}"]
            await _run([MERGER, "merge", "--backend=fsdp", *places], job.parent)
        review_phase(training, phase)


def _job_path(folder: Path, phase: Phase) -> Path:
    return folder.absolute() / FOLDER / phase.name / JOB_FILE


async def _look(
    recipe: Recipe, phase: Phase, rows: Sequence[Sample], partner: Partner, checkpoint: Checkpoint, folder: Path
) -> dict[str, Trace]:
    """Find out where the frozen perceiver looks in each row, once; {} where a phase does not need it.

    A row whose image cannot be opened is left out here; its loops fail, and are counted.
    """
    if phase.kind != "reasoner":
        return {}
    prompts, weights = load_prompt_set(phase.rollout.prompts), fingerprint_weights(checkpoint.folder)
    found, asked = dict[str, Trace](), list({row.id: row for row in rows}.values())
    with open_evidence(recipe, folder / EVIDENCE_FOLDER / phase.name, partner, prompts, weights) as store:
        for first in range(0, len(asked), phase.prompts_per_step):
            lot = asked[first : first + phase.prompts_per_step]
            images = await FailureGauge(1).try_each(lot, lambda row: FullImage(row.image.load(), row.image.load), 1)
            opened = [(row, image) for row, image in zip(lot, images, strict=True) if image is not None]
            traces = await store.perceive([row for row, _ in opened], [image for _, image in opened])
            found |= {row.id: trace for (row, _), trace in zip(opened, traces, strict=True)}
    return found


async def _run(module: Sequence[str], folder: Path, look: Callable[[], object] = lambda: None) -> None:
    """Run a module of Python to its end, and look every second. Raises TrainingError when it fails."""
    output, record = folder / OUTPUT_FILE, folder / RECORD_FILE
    await asyncio.to_thread(keeper.end_recorded, record)
    with output.open("ab") as file:
        process = keeper.start(record, [sys.executable, "-m", *module], file)
    try:
        while (code := process.poll()) is None:
            look()
            await asyncio.sleep(LOOK_EVERY_S)
        look()
    finally:
        keeper.end(process)
    if code:
        text = output.read_text(encoding="utf-8", errors="replace").strip() or "it wrote nothing"
        said = f"verl ended with code {code}: {excerpt(text.splitlines()[-1])}"
        raise TrainingError(said, hint=f"see {output}; then `resume=True`")


class _StepLog:
    """Follows the steps of a phase as verl takes them. The failures of an earlier call do not count."""

    def __init__(self, training: Training, phase: Phase, job: Path, num_steps: int) -> None:
        self._training, self._phase, self._job, self._num_steps = training, phase, job, num_steps
        self._failures = FailureGauge(training.recipe.partner.max_error_rate)
        self._num_seen = 0

    def look(self) -> None:
        """Write down the steps that verl has finished since the last look.

        Raises:
            TooManyErrors: too many rollouts could not be judged.
            TrainingError: a guard stops the run.
        """
        log = self._job.with_name(LOG_FILE)
        lines = read_log(log)[self._num_seen :] if log.exists() else []
        for line in lines:
            self._num_seen += 1
            self._finish(cast("int", line["step"]), cast("Metrics", line["data"]))

    def _finish(self, step: int, metrics: Metrics) -> None:
        training, phase, recipe = self._training, self._phase, self._training.recipe
        records = [take_over(path, Record) for path in sorted(records_of(self._job, step).glob("*.pickle"))]
        stats = RolloutStats()
        for record in records:
            stats.add(record.stats)
            self._failures.count(record.outcomes)
        lost = ["a worker of verl failed"] * (phase.prompts_per_step - len(records)) * phase.rollout.group_size
        self._failures.count(lost)
        facts = [group for record in records for group in record.facts]
        timing = {
            name.removeprefix("timing_s/"): value for name, value in metrics.items() if name.startswith("timing_s/")
        }
        timing["seconds"] = timing.pop("step", 0.0)
        rate = metrics.get("actor/lr", phase.lr)
        row = measure_step(phase.name, step, facts, stats, None, rate, timing)
        known = {ours: metrics[theirs] for ours, theirs in NAMES.items() if theirs in metrics}
        training.log_step(row.model_copy(update=known), self._num_steps)
        for quoted in [record.quoted for record in records if record.quoted is not None][:1]:
            training.run.write(ROLLOUTS_FILE, quoted)
            training.trackers.send_group(quoted, training.run_step)
        shutil.rmtree(records_of(self._job, step), ignore_errors=True)
        self._failures.check()
        if step % recipe.checkpoint.every == 0 or step == self._num_steps:
            self._note(step)
        collapse = sound_alarms(training)
        if collapse and recipe.guards.action == "stop":
            raise stop_by_guard(phase, step, collapse)

    def _note(self, step: int) -> None:
        """Note that verl has a checkpoint of this step."""
        training, run = self._training, self._training.run
        training.saved = Position(
            phase=self._phase.index,
            step=step,
            run_step=training.run_step,
            row_position=0,
            model=WRITER,
            num_processes=1,
            log_bytes=run.log_bytes(),
        )
        run.checkpoints.save(training.saved, None)
