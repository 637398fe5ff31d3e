"""What the frozen reasoner has said, so that nothing is asked twice: within a group, within a step, across epochs.

Two calls are the same when the reasoner sees and reads the same: the same image, the same boxes in the same order to
the pixel, the same crops, the same question. Labels are not drawn, so they do not count; replies without a usable box
all show the image alone. What the frozen role would say does not change within a phase, and a memo belongs to one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import JsonValue

from p2r.evidence import Evidence, plan_crops
from p2r.roles import Reasoner
from p2r.types import Box, Completion, EvidenceRecord, Frozen, Sample

EvidenceKey: TypeAlias = tuple[tuple[int, int, int, int], ...]


def evidence_key(image_wh: tuple[int, int], boxes: Sequence[Box], record: EvidenceRecord | None = None) -> EvidenceKey:
    """What tells the evidence of one box set from that of another, for the same image.

    Corners of all boxes and of the crops, in pixels; () without evidence.

    Args:
        image_wh: (width, height) in pixels.
        record: how the evidence was gathered, where it has been.
    """
    record = record or plan_crops(image_wh, boxes)
    return (*(box.to_pixels(*image_wh) for box in boxes), *record.crops) if record.annotated else ()


class _Dumped(Frozen):
    num_asked: int
    num_reused: int
    replies: Mapping[str, Completion]


class Memo:
    """Replies by what was asked.

    num_asked, num_reused: calls that reached the model, and those that did not have to.
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

    def dump(self) -> dict[str, JsonValue]:
        """Everything, for a checkpoint."""
        replies: dict[str, JsonValue] = {key: reply.model_dump(mode="json") for key, reply in self._replies.items()}
        return {"num_asked": self.num_asked, "num_reused": self.num_reused, "replies": replies}

    def load(self, dumped: Mapping[str, JsonValue]) -> None:
        """Become what `dump` was called on."""
        stored = _Dumped.model_validate(dumped)
        self._replies = dict(stored.replies)
        self.num_asked, self.num_reused = stored.num_asked, stored.num_reused


@dataclass(frozen=True, slots=True)
class MemoReasoner:
    """Answers what was answered before from memory, and asks `reasoner` the rest. Failures are not remembered.

    remembers: False only counts.
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
            if self.remembers:
                self.memo.add(key, reply)
        return reply


def _hash_call(sample: Sample, evidence: Evidence) -> str:
    seen = evidence_key(evidence.full_image.size, evidence.boxes, evidence.record)
    read = [sample.image.uri, sample.question, sample.options, sample.options_in_question, sample.answer_form]
    return hashlib.sha256(json.dumps([seen, read]).encode()).hexdigest()[:24]
