"""The jobs of one `p2r eval`: each a benchmark in one mode, asked one after the other with a bar for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from p2r.benchmarks import Benchmark
from p2r.dialogue import Model
from p2r.evaluation.evaluate import Tally, evaluate
from p2r.modes import Roles
from p2r.prompts import PromptSet
from p2r.runs.clock import RunClock
from p2r.runs.evaluation import write_facts
from p2r.runs.origin import Origin, write_origin
from p2r.runs.store import Setting, TraceStore
from p2r.types import Sample


@dataclass(frozen=True, slots=True)
class Job:
    """One benchmark in one mode, ready to be asked."""

    name: str
    folder: Path
    benchmark: Benchmark
    samples: list[Sample]
    roles: Roles
    settings: dict[str, Setting]
    origin: Origin


async def run_jobs(
    jobs: list[Job],
    console: Console,
    judge: Model | None,
    wording: PromptSet,
    num_at_once: int,
    most_image_bytes: int,
    max_error_rate: float,
) -> list[Tally]:
    """One job after the other, in one event loop, to which connections of a model belong.

    Args:
        judge: judges free answers that are not in the target's words.
        wording: in which it is asked.

    Raises:
        TooManyErrors: of a job; those after it are not begun.
        StorageError: a folder cannot be written, or holds another run.
    """
    tallies: list[Tally] = []
    with _make_progress(console) as progress:
        for job in jobs:
            task = progress.add_task(job.name, total=len(job.samples), accuracy="")
            clock = RunClock(job.folder)

            def show(tally: Tally, task: object = task, clock: RunClock = clock) -> None:
                clock.count(tally.num_tried)
                accuracy = "" if tally.accuracy is None else f"{tally.accuracy:.1%} of {tally.num_judged}"
                failed = f", {tally.num_failed} failed" if tally.num_failed else ""
                done = tally.num_kept + tally.num_tried
                progress.update(task, completed=done, accuracy=accuracy + failed)  # type: ignore[arg-type]

            with TraceStore(job.folder, job.settings) as store, clock:
                write_facts(job.folder, job.samples)
                write_origin(job.folder, job.origin)
                num_kept = sum(store.find(sample) is not None for sample in job.samples)
                if num_kept:
                    console.print(
                        f"{job.name}: {num_kept} of {len(job.samples)} are answered already; going on", markup=False
                    )
                tallies.append(
                    await evaluate(
                        job.samples,
                        job.roles,
                        store,
                        scored_by=job.benchmark.scored_by,
                        judge_model=judge,
                        judge_prompts=wording,
                        num_at_once=num_at_once,
                        most_image_bytes=most_image_bytes,
                        max_error_rate=max_error_rate,
                        on_progress=show,
                    )
                )
    return tallies


def _make_progress(console: Console) -> Progress:
    """A bar on stderr with the accuracy so far and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[accuracy]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
