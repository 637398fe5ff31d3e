"""What the frozen role has said, so that it is never asked twice: a reasoner's answers, a perceiver's boxes.

The frozen role does not change within a phase, so what it has said once holds for the phase.

`Memo` holds answers. Two calls are equal when the reasoner sees and reads the same: the same image, the same boxes in
the same order to the pixel, the same crops, the same question. Labels are not drawn, so they do not count; replies
without a usable box all show the image alone. It also holds what a judging model said of answers.

`EvidenceStore` holds perceptions, on disk (algorithm 1, line 16). Decoding is greedy, so one perception of a row serves
all its rollouts, all epochs and every resume. What a server drew at a temperature of its own serves the rollouts of one
step and is forgotten, as in `Memo`: a row would be stuck with one draw out of many. The folder belongs to one set of
weights, prompts, budget and decoding; any other is refused. Rows that are perceived together share batches, and
rounding depends on a batch. So what a kill left of a batch is forgotten, and all of the batch is perceived again, as it
would have been.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from pydantic import JsonValue

from p2r.dialogue import Decoding, Model, ModelProfile, Prompt
from p2r.evidence import Evidence, plan_crops
from p2r.files import explain_write_errors, replace_file
from p2r.images.budget import FullImage
from p2r.pipeline import walk_twice
from p2r.roles import Perceiver, Reasoner
from p2r.runs.store import TRACES_FILE, TraceStore
from p2r.training.asking import open_row
from p2r.training.failures import FailureGauge
from p2r.training.lockstep import Partner, Walk
from p2r.types import Box, Completion, EvidenceRecord, Frozen, Sample, Trace

EvidenceKey: TypeAlias = tuple[tuple[int, int, int, int], ...]

WHOLE_FILE = "whole.txt"
"""Holds the number of traces that belong to whole batches."""


def evidence_key(image_wh: tuple[int, int], boxes: Sequence[Box], record: EvidenceRecord | None = None) -> EvidenceKey:
    """Return a key that tells the evidence of two box sets of one image apart.

    Corners of all boxes and of the crops, in pixels; () without evidence.

    Args:
        image_wh: (width, height) in pixels.
        record: how the evidence was gathered, where it has been.
    """
    record = record or plan_crops(image_wh, boxes)
    return (*(box.to_pixels(*image_wh) for box in boxes), *record.crops) if record.annotated else ()


@dataclass(frozen=True, slots=True)
class MemoMark:
    """The size and the counts of a memo at some point."""

    num_replies: int
    num_asked: int
    num_reused: int
    judged: MemoMark | None = None


class _Dumped(Frozen):
    num_asked: int
    num_reused: int
    replies: Mapping[str, Completion]
    judged: _Dumped | None = None


class Replies:
    """Replies by what was asked.

    num_asked, num_reused: calls that reached the model, and calls that were answered from memory.
    """

    def __init__(self) -> None:
        self._replies: dict[str, Completion] = {}
        self.num_asked = 0
        self.num_reused = 0

    def __len__(self) -> int:
        return len(self._replies)

    def find(self, key: str) -> Completion | None:
        """The reply, marked as reused."""
        reply = self._replies.get(key)
        self.num_reused += reply is not None
        return reply and reply.model_copy(update={"reused": "cache"})

    def add(self, key: str, reply: Completion) -> None:
        self._replies[key] = reply

    def clear(self) -> None:
        """Forget all replies; the counts stay."""
        self._replies.clear()

    def mark(self) -> MemoMark:
        """Note how much it holds now. It only grows."""
        return MemoMark(len(self._replies), self.num_asked, self.num_reused)

    def dump(self, mark: MemoMark | None = None) -> dict[str, JsonValue]:
        """Everything, or what it held when `mark` was noted, for a checkpoint."""
        mark = mark or self.mark()
        held = islice(self._replies.items(), mark.num_replies)
        replies: dict[str, JsonValue] = {key: reply.model_dump(mode="json") for key, reply in held}
        return {"num_asked": mark.num_asked, "num_reused": mark.num_reused, "replies": replies}

    def load(self, dumped: Mapping[str, JsonValue]) -> None:
        """Restore what `dump` returned."""
        self._restore(_Dumped.model_validate(dumped))

    def _restore(self, stored: _Dumped) -> None:
        self._replies = dict(stored.replies)
        self.num_asked, self.num_reused = stored.num_asked, stored.num_reused


class Memo(Replies):
    """Replies of the frozen role, and in `judged` those of a judging model."""

    def __init__(self) -> None:
        super().__init__()
        self.judged = Replies()

    def mark(self) -> MemoMark:
        return replace(super().mark(), judged=self.judged.mark())

    def dump(self, mark: MemoMark | None = None) -> dict[str, JsonValue]:
        return {**super().dump(mark), "judged": self.judged.dump(mark and mark.judged)}

    def _restore(self, stored: _Dumped) -> None:
        super()._restore(stored)
        if stored.judged is not None:
            self.judged._restore(stored.judged)


@dataclass(frozen=True, slots=True)
class MemoReasoner:
    """Repeats earlier answers from memory, and asks `reasoner` everything else.

    Not remembered are failures, and replies that a server drew at a temperature of its own.

    remembers: False to only count.
    """

    reasoner: Reasoner
    memo: Memo
    remembers: bool = True

    @property
    def fingerprint(self) -> str:
        return self.reasoner.fingerprint

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        key = _hash_call(sample, evidence)
        if (reply := self.memo.find(key)) is None:
            reply = await self.reasoner(sample, evidence)
            self.memo.num_asked += 1
            if self.remembers and not reply.was_drawn:
                self.memo.add(key, reply)
        return reply


class MemoModel:
    """A judging model that repeats earlier replies from memory.

    shares: a prompt that is under way is not sent again; whoever asks waits for its reply. Not for a model that
        answers in batches, which waits for all that ask.
    """

    def __init__(self, model: Model, memo: Replies, *, shares: bool) -> None:
        self._model, self._memo, self._shares = model, memo, shares
        self._under_way: dict[str, asyncio.Task[Completion]] = {}

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def profile(self) -> ModelProfile:
        return self._model.profile

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Reply to a prompt without images. Raises what the model raises."""
        key = hashlib.sha256(json.dumps([prompt.system, prompt.text, decoding.model_dump()]).encode()).hexdigest()[:24]
        if (reply := self._memo.find(key)) is not None:
            return reply
        if not self._shares:
            return await self._ask(key, prompt, decoding)
        if (task := self._under_way.get(key)) is not None:
            reply = await asyncio.shield(task)
            self._memo.num_reused += 1
            return reply.model_copy(update={"reused": "shared"})
        task = self._under_way[key] = asyncio.ensure_future(self._ask(key, prompt, decoding))
        task.add_done_callback(lambda _: self._under_way.pop(key))
        return await task

    async def _ask(self, key: str, prompt: Prompt, decoding: Decoding) -> Completion:
        reply = await self._model.complete(prompt, decoding)
        self._memo.num_asked += 1
        if not reply.was_drawn:
            self._memo.add(key, reply)
        return reply


class EvidenceSettings(Frozen):
    """run.json of an evidence folder: everything that can change a perception, as hashes."""

    weights: str
    perceiver: str


class EvidenceStore:
    """The perceptions of one phase. Use as a context manager.

    folder: made when missing.
    perceiver: asks `partner.model`.
    weights: a hash of the model's weights, on which a perception depends as well.

    Raises:
        StorageError: the folder belongs to other settings, or cannot be written.
    """

    def __init__(self, folder: Path, partner: Partner, perceiver: Perceiver, *, weights: str) -> None:
        self._partner, self._perceiver = partner, perceiver
        with explain_write_errors(folder):
            _forget_half_a_batch(folder)
        self._whole = folder / WHOLE_FILE
        self._store = TraceStore(folder, EvidenceSettings(weights=weights, perceiver=perceiver.fingerprint))

    async def perceive(self, rows: Sequence[Sample], full_images: Sequence[FullImage]) -> list[Trace]:
        """The trace of each row's perception, with a failure where even a second try failed.

        Args:
            full_images: the decoded image of each row.
        """
        missing = [place for place, row in enumerate(rows) if self._store.find(row) is None]

        def look(place: int) -> Walk[Trace]:
            return lambda: walk_twice(rows[place], self._perceiver, full_image=full_images[place])

        found = dict(zip(missing, await self._partner.run([look(place) for place in missing]), strict=True))
        for place, trace in found.items():
            if trace.failure is not None or _was_drawn(trace):
                continue
            if self._store.find(rows[place]) is None:  # another call may have written it
                self._store.append(trace)
        if found:
            with explain_write_errors(self._whole):
                replace_file(self._whole, str(len(self._store.finished)))
        return [found.get(place) or self._store.finished[row.id] for place, row in enumerate(rows)]

    async def perceive_all(self, rows: Sequence[Sample], num_at_once: int) -> dict[str, Trace]:
        """The trace of each row's perception by the row's id. A row whose image cannot be opened is left out."""
        found, distinct = dict[str, Trace](), [*{row.id: row for row in rows}.values()]
        for first in range(0, len(distinct), num_at_once):
            lot = distinct[first : first + num_at_once]
            opened = [one for one in await FailureGauge(1).try_each(lot, open_row, 1) if one is not None]
            traces = await self.perceive([row for row, _ in opened], [image for _, image in opened])
            found |= {trace.sample_id: trace for trace in traces}
        return found

    def __enter__(self) -> EvidenceStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._store.__exit__(kind, error, traceback)


def _was_drawn(trace: Trace) -> bool:
    completion = trace.perception.completion if trace.perception else None
    return completion is not None and completion.was_drawn


def _forget_half_a_batch(folder: Path) -> None:
    traces, whole = folder / TRACES_FILE, folder / WHOLE_FILE
    if not traces.exists():
        return
    *lines, _ = traces.read_text(encoding="utf-8", errors="replace").split("\n")
    num_whole = int(whole.read_text(encoding="utf-8")) if whole.exists() else 0
    if len(lines) > num_whole:
        replace_file(traces, "".join(line + "\n" for line in lines[:num_whole]))


def _hash_call(sample: Sample, evidence: Evidence) -> str:
    seen = evidence_key(evidence.full_image.size, evidence.boxes, evidence.record)
    read = [sample.image.uri, sample.question, sample.options, sample.options_in_question, sample.answer_form]
    return hashlib.sha256(json.dumps([seen, read]).encode()).hexdigest()[:24]
