"""Questions about images from Python: one, many, or from inside an event loop.

    model = P2R("p2r-4b")
    trace = model.ask("photo.jpg", "What is on the sail?", options=["a star", "a fish"])
    print(trace.answer, trace.boxes_px)

Blocking calls run on an event loop in a thread of its own, so they also work in a notebook, where a loop is running.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar, cast, get_args

from PIL import Image

from p2r import errors
from p2r.boxes.other_frame import FrameCount, count_frames
from p2r.choices import find_letter, strip_letters
from p2r.dialogue import Budget, Model
from p2r.errors import DataError, P2RError, count_nouns, excerpt
from p2r.images.find import find_image
from p2r.images.load import MAX_IMAGE_PIXELS, MemoryImage
from p2r.images.remember import remember_image
from p2r.judges import judge_for
from p2r.judges.number import check_target
from p2r.loop import blocking_loop, run_blocking, take
from p2r.models.known import is_shipped
from p2r.models.load import check_model, check_profile, check_stated, load_model, load_roles, loading_of
from p2r.models.profiles import FamilyName
from p2r.modes import AskMode, make_roles, read_mode
from p2r.pipeline import walk
from p2r.prompts import PromptSet, check_encoding, check_question, load_prompt_set
from p2r.roles import hash_roles, limit_replies
from p2r.types import AnswerForm, Failure, Frame, ImageSource, Sample, Trace
from p2r.walks import check_sample, walk_all

AnyImage = str | Path | Image.Image | ImageSource
Result = TypeVar("Result")


class P2R:
    """A model, and the mode in which it is asked.

    Args:
        model: reasons, and perceives unless there is a `perceiver_model`; named as in `load_model`, or loaded.
        perceiver_model: perceives in place of `model`.
        mode: "p2r" looks twice; "direct" and "thinking" look once and answer at once or step by step; "tools" is a
            chat in which the model zooms in; "zoom" is a search over parts of the image.
        prompts: a shipped prompt set ("release", "paper"), the folder of your own set, or a loaded set.
        profile, perceiver_profile: what `model` and `perceiver_model` are, where they are behind servers, as in
            `load_model`.
        family, frame: of the model that says where to look, as in `load_model`; not for a loaded model.
        budget: pixels of an image or crop; None for each model's own budget.
        perceiver_new_tokens, reasoner_new_tokens: most tokens of a reply of each role; None for 256 and 1024.
        max_image_pixels: a larger file is refused before it is decoded.

    Raises:
        ConfigError: there is no such mode or prompt set, or a model is neither a model nor the name of one.
        ModelError: a model cannot be loaded.
    """

    def __init__(
        self,
        model: str | Model,
        *,
        perceiver_model: str | Model | None = None,
        mode: AskMode = "p2r",
        prompts: str | Path | PromptSet = "release",
        profile: str | None = None,
        perceiver_profile: str | None = None,
        family: FamilyName | None = None,
        frame: Frame | None = None,
        budget: Budget | None = None,
        perceiver_new_tokens: int | None = None,
        reasoner_new_tokens: int | None = None,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
    ) -> None:
        read_mode(mode)  # before a model is loaded, which may take minutes
        check_model(model)
        if perceiver_model is not None:
            check_model(perceiver_model, "perceiver_model")
        wording = prompts if isinstance(prompts, PromptSet) else load_prompt_set(prompts)
        self.max_image_pixels = max_image_pixels
        check_stated(family, frame, model if perceiver_model is None else perceiver_model)
        check_profile(profile, model)
        check_profile(perceiver_profile, perceiver_model, "perceiver_profile")
        decoding = limit_replies(perceiver_new_tokens, reasoner_new_tokens)
        answerer, looker = load_roles(
            model,
            perceiver_model,
            profile=profile,
            perceiver_profile=perceiver_profile,
            family=family,
            frame=frame,
            load=load_model,
        )
        self.budget = budget or answerer.profile.budget
        self.perceiver, self.reasoner = make_roles(
            mode, answerer, wording, perceiver_model=looker, budget=budget, decoding=decoding
        )
        self._wording, self._models = wording, (answerer, looker)
        self._last_image: ImageSource | None = None
        if "IPython" in sys.modules:  # only notebooks need the report room, which loads slowly
            from p2r.report.trace import show_traces_in_notebooks

            show_traces_in_notebooks()

    @property
    def fingerprint(self) -> str:
        """Short hash of everything that can change an answer. Every trace holds it."""
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
        """Ask one question and wait for the answer. Also works inside a running event loop.

        Args:
            image, question, options, answer_form, target: as in `make_sample`. The target is only used for judging.

        Returns:
            The trace: what was seen, said and, with a target, judged.

        Raises:
            P2RError: of the kind that fits the cause. (`ask_many` records it on the trace instead.)

        Warns when a box does not fit the frame in which it is read (`FrameWarning`).
        """
        sample = self._make_sample(image, question, options=options, answer_form=answer_form, target=target)
        self._last_image = sample.image  # a notebook shows it next, though nothing else may keep it
        return self.ask_sample(sample)

    async def ask_async(
        self,
        image: AnyImage,
        question: str,
        *,
        options: Sequence[str] = (),
        answer_form: AnswerForm | None = None,
        target: str | None = None,
    ) -> Trace:
        """`ask` for use with `await`; many calls may run side by side."""
        return await self.ask_sample_async(
            self._make_sample(image, question, options=options, answer_form=answer_form, target=target)
        )

    def ask_sample(self, sample: Sample) -> Trace:
        """`ask` for a sample that is made already, by `make_sample` or by a benchmark. Raises as `ask`."""
        return self._finish(run_blocking(self.walk(sample)))

    async def ask_sample_async(self, sample: Sample) -> Trace:
        """`ask_sample` for use with `await`; many calls may run side by side."""
        return self._finish(await self.walk(sample))

    def _finish(self, trace: Trace) -> Trace:
        """Warn of boxes of another frame, and raise a failure: in the thread of the user, whose line is named."""
        count_frames([trace]).warn()
        if trace.failure is not None:
            raise revive(trace.failure)
        return trace

    def ask_many(self, samples: Iterable[Sample], *, num_at_once: int = 8) -> Generator[Trace, None, None]:
        """Ask many questions (see `make_sample`) side by side and yield their traces as they finish.

        `trace.sample_id` tells them apart. A question that fails yields a trace with `failure` and does not stop the
        others. A sample is drawn when one of the `num_at_once` places becomes free, so that no more images are in
        memory. Leaving the loop early cancels the questions under way.

        Warns at the end when many boxes do not fit the frame in which they are read (`FrameWarning`).
        """
        inbox, stopped = SimpleQueue[Trace | BaseException | None](), SimpleQueue[object]()
        frames = FrameCount()

        async def fill_inbox() -> None:
            try:
                async with aclosing(walk_all(samples, self.walk, num_at_once=num_at_once)) as traces:
                    async for trace in traces:
                        inbox.put(trace)
                inbox.put(None)
            except Exception as error:
                inbox.put(error)

        async def start() -> asyncio.Task[None]:
            task = asyncio.create_task(fill_inbox())
            task.add_done_callback(stopped.put)
            return task

        task = run_blocking(start())
        try:
            while (item := take(inbox)) is not None:
                if isinstance(item, BaseException):
                    raise item
                frames.count([item.perception])
                yield item
        finally:
            blocking_loop().call_soon_threadsafe(task.cancel)
            take(stopped)
            frames.warn()

    async def ask_many_async(self, samples: Iterable[Sample], *, num_at_once: int = 8) -> AsyncGenerator[Trace, None]:
        """`ask_many` for use with `async for`."""
        frames = FrameCount()
        try:
            async with aclosing(walk_all(samples, self.walk, num_at_once=num_at_once)) as traces:
                async for trace in traces:
                    frames.count([trace.perception])
                    yield trace
        finally:
            frames.warn()

    async def walk(self, sample: Sample) -> Trace:
        """Walk a sample, with a judge when it has a target. A failure is recorded on the trace.

        Warns when a shipped model is asked something that it was not trained on.
        """
        check_sample(sample)
        judge = judge_for(sample) if sample.target is not None else None
        trace = await walk(sample, self.perceiver, self.reasoner, judge)
        remember_image(trace, sample.image)
        if any(is_shipped(loading_of(model).spec) for model in self._models if model is not None):
            from p2r.benchmarks.needles.limits import warn_of_limits  # other models need nothing of that room

            image_wh = trace.evidence.image_wh if trace.evidence else None
            warn_of_limits(self._models, [sample], image_wh)
        return trace

    def _make_sample(
        self,
        image: AnyImage,
        question: str,
        *,
        options: Sequence[str],
        answer_form: AnswerForm | None,
        target: str | None,
    ) -> Sample:
        return make_sample(
            image,
            question,
            options=options,
            answer_form=answer_form,
            target=target,
            max_image_pixels=self.max_image_pixels,
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
    """Make a sample: one question about one image, checked so that it can be asked and judged.

    Args:
        image: a path, a URL, a PIL image or an image source.
        options: the answers to choose from; () for an open question. Letters that they carry are stripped.
        answer_form: "choice" with options and "free_form" without, by default.
        target: the right answer, if known; for a choice the letter or the text of an option.
        id: the name of its trace; the image's name by default.
        max_image_pixels: a larger file is refused when it is loaded.

    Raises:
        DataError: an argument of the wrong type, an empty question, options that cannot be asked or are not all
            different, or a target that cannot be right.
        ImageError: the image is a URL of a kind that is not read.
    """
    _check_types(image, question, options, answer_form, target)
    check_encoding((question, *options, target or ""))
    form: AnswerForm = answer_form or ("choice" if options else "free_form")
    if (form == "choice") != bool(options):
        raise DataError(
            f"the answer form {form!r} does not go with {count_nouns(len(options), 'option')}",
            hint="a choice needs `options`; leave them out for a number or a free answer",
        )
    source = image
    if isinstance(source, (str, Path)):
        source = find_image(source, max_image_pixels=max_image_pixels)
    elif isinstance(source, Image.Image):
        source = MemoryImage(source)
    texts = strip_letters(options)
    if target is not None and target.strip() in (given := [option.strip() for option in options]):
        target = texts[given.index(target.strip())]  # "A. red" is the target "red"
    sample = Sample(
        id=source.uri if id is None else id,
        image=source,
        question=question,
        options=texts,
        answer_form=form,
        target=None if target is None else _read_target(target, form, texts),
    )
    check_question(sample)
    stripped = [option.strip() for option in texts]
    twice = next((option for option in stripped if stripped.count(option) > 1), None)
    if twice is not None:
        raise DataError(
            f"sample {sample.id!r} has the option {twice!r} more than once", hint="each option must be different"
        )
    return sample


_IMAGE_HINTS = {
    "bytes": "give a path, a URL or a PIL image, such as PIL.Image.open(io.BytesIO(data))",
    "ndarray": "give a path, a URL or a PIL image, such as PIL.Image.fromarray(array); the array must be RGB, and "
    "OpenCV's are BGR",
}
"""Hints for types that do not say what they hold: an array keeps the order of its channels to itself."""


def _check_types(image: object, question: object, options: object, answer_form: object, target: object) -> None:
    if not isinstance(image, (str, Path, Image.Image)) and not (hasattr(image, "uri") and hasattr(image, "load")):
        raise DataError(
            f"image is {' '.join(excerpt(image).split())}, which is not an image",
            hint=_IMAGE_HINTS.get(type(image).__name__, "image is a path, a URL, a PIL image or an image source"),
        )
    if not isinstance(question, str):
        raise DataError(f"question is {excerpt(question)}, not a text", hint='write it as `question="What is this?"`')
    if isinstance(options, str) or not isinstance(options, Sequence):
        raise DataError(
            f"options is {excerpt(options)}, not a list of texts", hint='write it as `options=["red", "blue"]`'
        )
    for option in cast("Sequence[object]", options):
        if not isinstance(option, str):
            raise DataError(
                f"options holds {excerpt(option)}, which is not a text", hint='write it as `options=["1", "2"]`'
            )
    if answer_form is not None and answer_form not in get_args(AnswerForm):
        raise DataError(
            f"there is no answer form {excerpt(answer_form)}",
            hint=f"`answer_form` is one of {', '.join(get_args(AnswerForm))}, or None to choose by the options",
        )
    if target is not None and not isinstance(target, str):
        raise DataError(f"target is {excerpt(target)}, not a text", hint='write it as `target="5"`')


def _read_target(target: str, form: AnswerForm, options: Sequence[str]) -> str:
    """Return a target as samples hold it: the letter of an option, or a text that can be judged by."""
    if form == "choice":
        return find_letter(target, options)
    if not target.strip():
        raise DataError("the target is empty", hint="leave out the target when the right answer is not known")
    if form == "number":
        check_target(target)
    return target


def revive(failure: Failure) -> P2RError:
    """Return the error that a walk recorded, to be raised again."""
    kind: object = getattr(errors, failure.kind, None)
    if isinstance(kind, type) and issubclass(kind, P2RError):
        return kind(failure.message, hint=failure.hint)
    return P2RError(failure.message, hint=failure.hint)
