"""Questions about images from Python: one, many, or from inside an event loop.

    p2r = P2R(load_model("nano"))
    trace = p2r.ask("photo.jpg", "What is on the sail?", options=["a star", "a fish"])

Blocking calls run on an event loop in a thread of its own, so they work in notebooks, where one is already running.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from queue import Queue
from typing import TypeVar

from PIL import Image

from p2r import errors
from p2r.dialogue import Budget, Model
from p2r.errors import DataError, P2RError
from p2r.images.load import MAX_IMAGE_PIXELS, FileImage, MemoryImage
from p2r.judges import judge_for
from p2r.loop import blocking_loop, run_blocking
from p2r.modes import AskMode, make_roles
from p2r.pipeline import walk
from p2r.prompts import PromptSet, load_prompt_set, question_text
from p2r.roles import hash_roles
from p2r.types import AnswerForm, Failure, ImageSource, Sample, Trace
from p2r.walks import walk_all

AnyImage = str | Path | Image.Image | ImageSource
Result = TypeVar("Result")


class P2R:
    """A model, and the way it is asked.

    Args:
        model: answers, and says where to look.
        perceiver_model: says where to look instead of `model`.
        mode: "p2r" looks twice; "direct" and "thinking" look once and answer at once or step by step; "tools"
            is a chat in which the model zooms in, "zoom" a search over parts of the image.
        prompts: a shipped set ("release", "paper"), a folder of one's own, or a loaded set.
        budget: of pixels, for images and crops; None for each model's own.
        max_image_pixels: larger files are refused before they are decoded.

    Raises:
        ConfigError: no such prompt set.
    """

    def __init__(
        self,
        model: Model,
        *,
        perceiver_model: Model | None = None,
        mode: AskMode = "p2r",
        prompts: str | Path | PromptSet = "release",
        budget: Budget | None = None,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
    ) -> None:
        wording = prompts if isinstance(prompts, PromptSet) else load_prompt_set(prompts)
        self.max_image_pixels = max_image_pixels
        self.perceiver, self.reasoner = make_roles(mode, model, wording, perceiver_model=perceiver_model, budget=budget)
        if "IPython" in sys.modules:  # only notebooks need the report room, which loads slowly
            from p2r.report.trace import show_traces_in_notebooks

            show_traces_in_notebooks()

    @property
    def fingerprint(self) -> str:
        """Short hash of everything that can change an answer; it stands in every trace."""
        return hash_roles(self.perceiver, self.reasoner)

    def ask(
        self,
        image: AnyImage,
        question: str,
        *,
        options: Sequence[str] = (),
        answer_form: AnswerForm | None = None,
        target: str | None = None,
    ) -> Trace:
        """Ask one question and wait for the answer. Works inside a running event loop, too.

        Args:
            image, question, options, answer_form, target: as in `make_sample`; the target is only used to judge.

        Returns:
            What was seen, said and, with a target, judged.

        Raises:
            P2RError: of the kind that fits the cause. (`ask_many` records it on the trace instead.)
        """
        return run_blocking(self.ask_async(image, question, options=options, answer_form=answer_form, target=target))

    async def ask_async(
        self,
        image: AnyImage,
        question: str,
        *,
        options: Sequence[str] = (),
        answer_form: AnswerForm | None = None,
        target: str | None = None,
    ) -> Trace:
        """`ask` for use with `await`; many may run side by side."""
        sample = make_sample(
            image,
            question,
            options=options,
            answer_form=answer_form,
            target=target,
            max_image_pixels=self.max_image_pixels,
        )
        trace = await self.walk(sample)
        if trace.failure is not None:
            raise revive(trace.failure)
        return trace

    def ask_many(self, samples: Iterable[Sample], *, num_at_once: int = 8) -> Generator[Trace, None, None]:
        """Ask many questions (see `make_sample`) side by side and yield traces *as they finish*; `trace.sample_id`
        says whose they are.

        A question that fails gives a trace with `failure` and does not stop the others. Samples are drawn as places
        become free, and at most `num_at_once` images are in memory. Leaving the loop early cancels what is in
        flight.
        """
        inbox: Queue[Trace | BaseException | None] = Queue()
        stopped = threading.Event()

        async def fill_inbox() -> None:
            try:
                async for trace in self.ask_many_async(samples, num_at_once=num_at_once):
                    inbox.put(trace)
                inbox.put(None)
            except Exception as error:
                inbox.put(error)

        async def start() -> asyncio.Task[None]:
            task = asyncio.create_task(fill_inbox())
            task.add_done_callback(lambda _: stopped.set())
            return task

        task = run_blocking(start())
        try:
            while (item := inbox.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            blocking_loop().call_soon_threadsafe(task.cancel)
            stopped.wait()

    async def ask_many_async(self, samples: Iterable[Sample], *, num_at_once: int = 8) -> AsyncGenerator[Trace, None]:
        """`ask_many` for use with `async for`."""
        async with aclosing(walk_all(samples, self.walk, num_at_once=num_at_once)) as traces:
            async for trace in traces:
                yield trace

    async def walk(self, sample: Sample) -> Trace:
        """The one way, with a judge when the sample has a target. Failures are recorded on the trace."""
        return await walk(
            sample, self.perceiver, self.reasoner, judge_for(sample) if sample.target is not None else None
        )


def make_sample(
    image: AnyImage,
    question: str,
    *,
    options: Sequence[str] = (),
    answer_form: AnswerForm | None = None,
    target: str | None = None,
    id: str | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> Sample:
    """One question about one image, checked.

    Args:
        image: a path, a PIL image or an image source.
        options: answers to choose from, without letters; () for an open question.
        answer_form: "choice" with options, else "free_form", unless said otherwise.
        target: the right answer, if known: of a choice the letter, else a text.
        id: how its trace is known; the image's name by default.
        max_image_pixels: a larger file is refused when it is loaded.

    Raises:
        DataError: an empty question, or options that cannot be asked or are not all different.
    """
    form: AnswerForm = answer_form or ("choice" if options else "free_form")
    if (form == "choice") != bool(options):
        raise DataError(
            f"the answer form {form!r} does not go with {len(options)} options",
            hint="a choice needs options; leave them out for a number or a free answer",
        )
    source = image
    if isinstance(source, (str, Path)):
        source = FileImage(source, max_image_pixels=max_image_pixels)
    elif isinstance(source, Image.Image):
        source = MemoryImage(source)
    sample = Sample(
        id=source.uri if id is None else id,
        image=source,
        question=question,
        options=tuple(options),
        answer_form=form,
        target=target,
    )
    question_text(sample)
    stripped = [option.strip() for option in options]
    twice = next((option for option in stripped if stripped.count(option) > 1), None)
    if twice is not None:
        raise DataError(
            f"sample {sample.id!r} has the option {twice!r} more than once", hint="each option must be different"
        )
    return sample


def revive(failure: Failure) -> P2RError:
    """The error that a walk recorded, to be raised again."""
    kind: object = getattr(errors, failure.kind, None)
    if isinstance(kind, type) and issubclass(kind, P2RError):
        return kind(failure.message, hint=failure.hint)
    return P2RError(failure.message, hint=failure.hint)
