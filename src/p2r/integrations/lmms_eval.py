# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportUntypedBaseClass=false
# pyright: reportUntypedFunctionDecorator=false
# lmms-eval is installed by those who use it, not by p2r, so its types are unknown here
"""p2r as a model of lmms-eval: each question of its image tasks takes the one walk.

    python -m lmms_eval --model p2r --model_args model=nano,mode=p2r,out=runs/vstar --tasks vstar_bench

lmms-eval finds the model by the entry point `lmms_eval.models`. A question is asked inside p2r's own prompts: of V*,
HR-Bench and MME-RealWorld as `p2r eval` asks it, of other tasks in the task's words; see `lmms_wording`. lmms-eval gets
what p2r read out of the reply, a letter where there are options, and scores it by its own rules. The task's generation
arguments are not used: they are meant for bare answers and would cut the reasoning off.

Failed is not wrong, but lmms-eval knows no failures and scores whatever it gets. So a failure stops the run unless
`max_failed` allows it; then lmms-eval gets an empty reply and counts it as wrong, and the log says how many there were.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from loguru import logger
from PIL import Image

from p2r.benchmarks.needles.limits import warn_of_limits
from p2r.boxes.other_frame import count_frames
from p2r.errors import ConfigError, DataError, TooManyErrors, count_nouns
from p2r.evaluation.asking import Tally, ask_samples
from p2r.evaluation.cost import ANSWERING, list_calls
from p2r.images.load import MemoryImage
from p2r.integrations.lmms_wording import word_question
from p2r.loop import run_blocking
from p2r.models.load import check_profile, load_model, load_roles
from p2r.models.profiles import FamilyName
from p2r.modes import MODES, Mode, make_roles, read_mode
from p2r.prompts import load_prompt_set
from p2r.roles import hash_roles
from p2r.runs.store import TraceStore
from p2r.types import Frame, Frozen, Sample, Trace

MANIFEST = ModelManifest(model_id="p2r", simple_class_path="p2r.integrations.lmms_eval.P2RModel")
"""The description of the model that the entry point hands to lmms-eval."""

NOT_OFFERED: frozenset[Mode] = frozenset({"oracle", "random", "shuffled", "paired-crop"})
"""Modes that need gold boxes or crops, which lmms-eval's tasks do not state, or that would move the right letter."""


class P2RModel(lmms):
    """A model of lmms-eval that answers questions about one image. Its arguments are those of `--model_args`.

    Args:
        model, perceiver_model, profile, perceiver_profile, family, frame, max_pixels, device, dtype: as in `p2r eval`.
        mode: any mode of `p2r eval` that is not in NOT_OFFERED.
        prompts: release, paper, or a folder.
        closing: "drop" leaves out what the task says after the last option ("Answer with the option's letter ...
            directly"), because p2r's prompts already say how to answer, and such a sentence would keep a model from
            looking and reasoning; and asks the benchmarks that p2r has in the words of `p2r eval`. "keep" keeps all
            words of the task. A question without options is always kept whole, because nothing marks where it ends.
        num_at_once: most questions in flight, and so most images in memory.
        max_failed: questions that may fail; one more stops the run.
        out: a folder for the traces. The same command with the same folder asks only what is missing or failed.
        batch_size, max_batch_size: lmms-eval gives them to every model. They are not used: models batch by themselves.

    Raises:
        ConfigError, ModelError: an argument is not usable.
    """

    def __init__(
        self,
        model: str = "nano",
        mode: str = "p2r",
        perceiver_model: str | None = None,
        prompts: str = "release",
        closing: str = "drop",
        profile: str | None = None,
        perceiver_profile: str | None = None,
        family: FamilyName | None = None,
        frame: Frame | None = None,
        max_pixels: int | None = None,
        num_at_once: int = 8,
        max_failed: int = 0,
        out: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | str | None = None,
    ) -> None:
        super().__init__()
        if (num_processes := os.environ.get("WORLD_SIZE", "1")) != "1":
            raise ConfigError(
                f"lmms-eval runs in {count_nouns(int(num_processes), 'process', 'processes')}",
                hint="start one; for several GPUs, ask a server",
            )
        chosen = read_mode(mode)
        if chosen in NOT_OFFERED:
            offered = ", ".join(name for name in MODES if name not in NOT_OFFERED)
            raise ConfigError(f"lmms-eval cannot be answered in the mode {mode!r}", hint=f"modes: {offered}")
        if closing not in ("keep", "drop"):
            raise ConfigError(f"closing is {closing!r}", hint="write closing=keep or closing=drop")
        if num_at_once < 1 or max_failed < 0:
            raise ConfigError(
                f"num_at_once is {num_at_once} and max_failed is {max_failed}", hint="at least 1, and at least 0"
            )
        check_profile(profile, model)
        check_profile(perceiver_profile, perceiver_model, "perceiver_profile")
        answerer, looker = load_roles(
            model,
            perceiver_model or None,
            profile=profile,
            perceiver_profile=perceiver_profile,
            family=family,
            frame=frame,
            load=partial(load_model, device=device, dtype=dtype, max_pixels=max_pixels),
        )
        self._models, self._wording = (answerer, looker), load_prompt_set(prompts)
        self._roles = make_roles(chosen, answerer, self._wording, perceiver_model=looker)
        self._closing = closing
        self._num_at_once, self._max_failed = num_at_once, max_failed
        self._out = None if out is None else Path(out).expanduser()
        self._settings = LmmsEvalSettings(
            mode=chosen,
            model=model,
            perceiver_model=perceiver_model,
            prompts=prompts,
            roles=hash_roles(*self._roles),
            closing=self._closing,
            profile=profile,
            perceiver_profile=perceiver_profile,
            family=family,
            frame=frame,
            max_pixels=max_pixels,
            dtype=dtype,
        )

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """One reply per request, in their order; requests that repeat a question share one.

        Raises:
            TooManyErrors: more questions failed than `max_failed`.
            StorageError: `out` cannot be written, or holds another run.
        """
        samples = [self._to_sample(request) for request in requests]
        warn_of_limits(self._models, samples)
        traces = run_blocking(self._walk_all({sample.id: sample for sample in samples}))
        count_frames(traces.values()).warn()
        return [to_result(traces[sample.id]) for sample in samples]

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        raise _refuse("log-likelihoods, because p2r answers in words")

    def generate_until_multi_round(self, requests: list[Instance]) -> NoReturn:
        raise _refuse("several rounds, because p2r answers one question about one image")

    def _to_sample(self, request: Instance) -> Sample:
        """`doc_to_visual` reads the image when the walk loads it."""
        text, _, doc_to_visual, doc_id, task, split = request.args
        name = f"{task}/{split}/{doc_id}" + (f"/{request.idx}" if request.idx else "")
        image = TaskImage(name, doc_to_visual, self.task_dict[task][split], doc_id)
        worded = word_question(task, text, keeps_all=self._closing == "keep")
        return Sample(
            id=name,
            image=image,
            question=worded.question,
            options=worded.options,
            options_in_question=worded.options_in_question,
            answer_form="choice" if worded.options else "free_form",
            benchmark=task,
        )

    async def _walk_all(self, samples: Mapping[str, Sample]) -> dict[str, Trace]:
        failed: list[Trace] = []

        def note(tally: Tally) -> None:
            if tally.num_kept and not tally.num_tried:
                logger.info(f"p2r: {tally.num_kept} of {len(samples)} questions are answered already in {self._out}")

        def watch(trace: Trace) -> None:
            if trace.failure is not None:
                failed.append(trace)
                logger.error(f"p2r: no answer to {trace.sample_id}: {trace.failure.message}")
            if len(failed) > self._max_failed:
                raise TooManyErrors(f"stopped: {_explain(failed, len(samples))}", hint=self._hint())

        with nullcontext() if self._out is None else TraceStore(self._out, self._settings) as store:
            traces = await ask_samples(
                list(samples.values()),
                *self._roles,
                store=store,
                num_at_once=self._num_at_once,
                max_error_rate=1.0,
                on_trace=watch,
                on_progress=note,
            )
        if failed:
            logger.warning(f"p2r: {_explain(failed, len(samples))}; lmms-eval gets empty replies and counts them wrong")
        return {trace.sample_id: trace for trace in traces}

    def _hint(self) -> str:
        how = "the same command resumes" if self._out else "give out=FOLDER to keep what was answered"
        return f"remove the cause ({how}), or raise max_failed, by which lmms-eval counts failures as wrong"


class LmmsEvalSettings(Frozen):
    """run.json of a folder that lmms-eval asked for: everything that can change an answer; see `RunSettings`."""

    asked_by: Literal["lmms-eval"] = "lmms-eval"
    mode: Mode
    model: str
    perceiver_model: str | None
    prompts: str
    roles: str
    closing: Literal["keep", "drop"]
    profile: str | None = None
    perceiver_profile: str | None = None
    family: FamilyName | None = None
    frame: Frame | None = None
    max_pixels: int | None
    dtype: str | None


@dataclass(frozen=True, slots=True)
class TaskImage:
    """The one image of a task's document, read when asked for."""

    uri: str
    doc_to_visual: Callable[[object], Sequence[object]]
    docs: Sequence[object]
    doc_id: int

    def load(self) -> Image.Image:
        """The upright RGB image.

        Raises:
            DataError: the document has no image, several, or something else.
            ImageError: it cannot be decoded.
        """
        visuals = self.doc_to_visual(self.docs[self.doc_id]) or ()
        if len(visuals) != 1 or not isinstance(visuals[0], Image.Image):
            kinds = ", ".join(type(visual).__name__ for visual in visuals) or "nothing"
            raise DataError(
                f"{self.uri} shows {kinds}, and p2r looks at one image",
                hint="choose a task with one image a question",
            )
        return MemoryImage(visuals[0], self.uri).load()


def to_result(trace: Trace) -> GenerationResult:
    """Return what lmms-eval gets: the letter, else the text, that was read out of the reply; the whole reply where
    nothing could be read; an empty one for a failure. Tokens are those of all calls.
    """
    answer, reply = trace.answer, trace.reasoning.text if trace.reasoning else ""
    text = "" if trace.failure or answer is None else answer.letter or answer.text or reply
    usages = [call.usage for stage in ANSWERING for call in list_calls(trace, stage)]
    return GenerationResult(
        text,
        TokenCounts(
            input_tokens=_add([usage.prompt_tokens for usage in usages]),
            output_tokens=_add([usage.generated_tokens for usage in usages]),
        ),
    )


def _add(counts: Sequence[int | None]) -> int | None:
    """None when some count is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if counts and len(known) == len(counts) else None


def _explain(failed: Sequence[Trace], num_questions: int) -> str:
    first = failed[0]
    cause = first.failure.message if first.failure else ""
    return f"{len(failed)} of {num_questions} questions failed, the first, {first.sample_id}, because {cause}"


def _refuse(what: str) -> ConfigError:
    return ConfigError(f"this lmms-eval task wants {what}", hint="choose a task whose output_type is generate_until")
