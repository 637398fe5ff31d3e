"""Many questions in one go: finished rows are on disk at once, and the same command goes on where it was stopped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import typer
from rich.console import Console

from p2r.api import P2R
from p2r.cli.guard import INTERRUPTED, print_error
from p2r.cli.screen import make_console, progress
from p2r.modes import Mode
from p2r.report.kit.trace_view import answer_text
from p2r.report.trace import holds_trace, save_trace
from p2r.runs.store import TraceStore
from p2r.statistics import wilson
from p2r.types import Frozen, Sample, Trace

IMAGES_FOLDER = "images"


class BatchSettings(Frozen):
    """run.json of a batch: everything that can change an answer; see `RunSettings`."""

    model: str
    perceiver_model: str | None
    mode: Mode
    prompts: str
    prompt_fingerprint: str
    max_pixels: int | None
    dtype: str | None


def ask_batch(
    p2r: P2R,
    samples: Sequence[Sample],
    folder: Path,
    settings: BatchSettings,
    *,
    shown_images: Path | None,
    as_json: bool,
    num_at_once: int,
) -> None:
    """Ask what is not yet answered in `folder`, and print a line for each.

    Args:
        images: a folder for the annotated image and the crops of each question, in a folder of its own.

    Raises:
        typer.Exit: 1 when a question failed, 130 when interrupted.
        StorageError: the folder holds another run, or cannot be written.
    """
    errors = make_console(stderr=True)
    images = {sample.id: sample.image for sample in samples}

    def save_images(trace: Trace) -> None:
        if shown_images is None or trace.failure is not None:
            return
        place = shown_images / name_folder(trace.sample_id)
        if not holds_trace(place, trace):
            save_trace(place, trace, images[trace.sample_id])

    with TraceStore(folder, settings) as store:
        waiting = [sample for sample in samples if store.find(sample) is None]
        num_before = len(samples) - len(waiting)
        if num_before:
            errors.print(f"{num_before} of {len(samples)} are answered already; going on", markup=False)
        for trace in filter(None, map(store.find, samples)):
            save_images(trace)
        try:
            with progress(errors) as bars, closing(p2r.ask_many(waiting, num_at_once=num_at_once)) as traces:
                task = bars.add_task("asking", total=len(samples), completed=num_before)
                for trace in traces:
                    store.append(trace)
                    save_images(trace)
                    print(trace.model_dump_json() if as_json else describe(trace), flush=True)
                    bars.advance(task)
        except KeyboardInterrupt:
            num_kept = sum(store.find(sample) is not None for sample in samples)
            print_error(
                f"interrupted; {num_kept} of {len(samples)} answers are kept in {store.path}",
                "the same command goes on from there",
            )
            raise typer.Exit(INTERRUPTED) from None
        finished = [trace for sample in samples if (trace := store.find(sample)) is not None]
    num_failed = len(samples) - len(finished)
    errors.print(f"{len(finished)} answered, {num_failed} failed: {store.path}", markup=False, soft_wrap=True)
    _print_accuracy(errors, finished)
    if num_failed:
        print_error(f"{num_failed} of {len(samples)} questions failed", "the same command asks only those again")
        raise typer.Exit(1)


def name_folder(sample_id: str) -> str:
    """The id where it can be a folder's name; else what of it can, and a hash that tells it from its like."""
    kept = re.sub(r"[^\w.-]", "_", sample_id)[:80]
    if kept == sample_id and kept.strip("."):
        return kept
    return f"{kept.strip('.')}-{hashlib.sha256(sample_id.encode()).hexdigest()[:8]}"


def describe(trace: Trace) -> str:
    """One line: whose question, and the answer or what went wrong."""
    if trace.failure is not None:
        return f"{trace.sample_id}\tfailed: {trace.failure.message}"
    mark = "" if trace.verdict is None else "\tright" if trace.verdict.correct else "\twrong"
    return f"{trace.sample_id}\t{answer_text(trace.answer, trace.options)}{mark}"


def _print_accuracy(console: Console, traces: Sequence[Trace]) -> None:
    """For questions whose right answer is known."""
    verdicts = [trace.verdict for trace in traces if trace.verdict is not None]
    if not verdicts:
        return
    num_correct = sum(verdict.correct for verdict in verdicts)
    interval = wilson(num_correct, len(verdicts))
    console.print(
        f"accuracy {num_correct / len(verdicts):.1%} ({num_correct} of {len(verdicts)} with a target; "
        f"95% interval {interval.low:.1%} to {interval.high:.1%})",
        markup=False,
    )
