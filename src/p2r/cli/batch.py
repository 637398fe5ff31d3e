"""Ask many questions: answers are on disk as soon as they come, and the same command resumes a run that was stopped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import typer
from rich.console import Console

from p2r.answers.numbers import find_number
from p2r.api import P2R
from p2r.boxes.other_frame import explain_frame
from p2r.cli.asked_page import find_place, write_asked_page
from p2r.cli.guard import end_interrupted, print_error
from p2r.cli.screen import make_console, progress
from p2r.errors import P2RWarning, count_nouns
from p2r.report.trace import holds_trace, save_trace
from p2r.runs.asked import (
    ANOTHER_SAVE,
    AskedPlace,
    BatchSettings,
    check_questions,
    name_folder,
    read_place,
    stamp_image,
    write_place,
)
from p2r.runs.store import TraceStore
from p2r.statistics import wilson
from p2r.types import Sample, Trace


def ask_batch(
    p2r: P2R,
    samples: Sequence[Sample],
    folder: Path,
    settings: BatchSettings,
    *,
    asked: str,
    images_folder: Path | None,
    html: Path | None,
    as_json: bool,
    num_at_once: int,
) -> None:
    """Ask the questions that have no answer in `folder` yet, and print a line for each.

    Args:
        asked: the file or the images and the question, as in `AskedPlace`.
        images_folder: where the annotated image and the crops of each question are saved, in a folder per question.
        html: file for a page of all questions, those that failed among them.

    Raises:
        typer.Exit: 1 when a question failed, 130 or 143 when interrupted.
        StorageError: the folder holds another run, or cannot be written.
    """
    errors = make_console(stderr=True)
    images = {sample.id: sample.image for sample in samples}

    def save_images(trace: Trace) -> None:
        if images_folder is None or trace.failure is not None:
            return
        place = images_folder / name_folder(trace.sample_id)
        if not holds_trace(place, trace):
            save_trace(place, trace, images[trace.sample_id])

    failed: dict[str, Trace] = {}
    with TraceStore(folder, settings, hint=ANOTHER_SAVE) as store:
        check_questions(folder, samples, store, asked)
        stamps = Stamps(folder, find_place(p2r).model_copy(update={"asked": asked}), samples, store)
        waiting = [sample for sample in samples if store.find(sample) is None or sample.id in stamps.changed]
        num_before = len(samples) - len(waiting)
        if stamps.changed:
            what = count_nouns(len(stamps.changed), "image has", "images have")
            errors.print(f"{what} changed since the answer; asking again", markup=False)
        if num_before:
            errors.print(f"{num_before} of {len(samples)} are answered already; resuming", markup=False)
        for trace in filter(None, map(store.find, samples)):
            if trace.sample_id not in stamps.changed:
                save_images(trace)
        try:
            with progress(errors) as bars, closing(p2r.ask_many(waiting, num_at_once=num_at_once)) as traces:
                task = bars.add_task("asking", total=len(samples), completed=num_before)
                for trace in traces:
                    store.append(trace)
                    stamps.note(trace)
                    if trace.failure is not None:
                        failed[trace.sample_id] = trace
                    save_images(trace)
                    print(trace.model_dump_json() if as_json else describe(trace), flush=True)
                    bars.advance(task)
        except KeyboardInterrupt:
            num_kept = sum(store.find(sample) is not None and sample.id not in stamps.changed for sample in samples)
            raise interrupt(num_kept, len(samples), store.path) from None
        finally:
            stamps.write()
        finished = [
            trace for sample in samples if (trace := store.find(sample)) is not None and sample.id not in stamps.changed
        ]
    if html is not None:
        traces = [trace for sample in samples if (trace := failed.get(sample.id) or store.find(sample)) is not None]
        write_asked_page(html, str(folder), traces, samples, p2r, settings)
    num_failed = len(samples) - len(finished)
    num_unread = sum(map(is_unread, finished))
    unread = f"{num_unread} without a readable answer, " if num_unread else ""
    count = f"{len(finished) - num_unread} answered, {unread}{num_failed} failed"
    errors.print(f"{count}: {store.path}", markup=False, soft_wrap=True)
    _print_accuracy(errors, finished)
    if note := explain_frame(finished):
        warnings.warn(note, P2RWarning, 2)
    if num_failed:
        print_error(f"{num_failed} of {len(samples)} questions failed", "the same command asks only these again")
        raise typer.Exit(1)


class Stamps:
    """The stamps of a batch's images, in asked.json: a question is asked again when its image has changed.

    changed: ids of the questions whose image has changed, and that have not been asked again.
    """

    def __init__(self, folder: Path, place: AskedPlace, samples: Sequence[Sample], store: TraceStore) -> None:
        known = read_place(folder)
        before = dict(known.stamps) if known is not None else dict[str, str]()
        self._folder, self._place = folder, place
        self._now = {sample.id: stamp for sample in samples if (stamp := stamp_image(sample.image))}
        self.changed = {
            sample.id
            for sample in samples
            if store.find(sample) is not None
            and sample.id in self._now
            and before.get(sample.id, self._now[sample.id]) != self._now[sample.id]
        }
        self._kept = {**before, **{id: stamp for id, stamp in self._now.items() if id not in self.changed}}
        self.write()

    def note(self, trace: Trace) -> None:
        """Take the image of a question that was answered now for the one that its answer is about."""
        if trace.failure is None and trace.sample_id in self.changed:
            self.changed.remove(trace.sample_id)
            self._kept[trace.sample_id] = self._now[trace.sample_id]

    def write(self) -> None:
        """Write asked.json. A changed image keeps the stamp of its answer, so that a stopped run asks it later."""
        write_place(self._folder, self._place.model_copy(update={"stamps": self._kept}))


def is_unread(trace: Trace) -> bool:
    """True where the reply states no answer that can be read, or something else where a number was asked for."""
    if trace.answer is None or trace.answer.is_missing:
        return True
    return trace.answer_form == "number" and find_number(trace.answer.text or "") is None


def interrupt(num_kept: int, num_asked: int, place: Path) -> typer.Exit:
    """Say after Ctrl-C or SIGTERM what is kept, and return the end of the command, to be raised."""
    kept = f"{num_kept} of {num_asked} answers are kept in {place}" if num_kept else "nothing was answered yet"
    return end_interrupted(kept, "the same command resumes")


def describe(trace: Trace) -> str:
    """Return one line: the question's id, and its answer or what went wrong, with tabs between.

    Tabs and line ends within them are written as in Python.
    """
    if trace.failure is not None:
        cells = [trace.sample_id, f"failed: {trace.failure.message}"]
    else:
        cells = [trace.sample_id, str(trace.answer or "no answer")]
    if trace.verdict is not None:
        cells.append("right" if trace.verdict.correct else "wrong")
    return "\t".join(cell.translate(_ESCAPES) for cell in cells)


_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _print_accuracy(console: Console, traces: Sequence[Trace]) -> None:
    """Print the accuracy on the questions whose right answer is known."""
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
