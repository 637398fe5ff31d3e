"""Write replies in OpenAI's form: a chat completion, its chunks, the list of models, and the field `p2r`."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from p2r.evaluation.cost import ANSWERING, Stage, list_calls
from p2r.models.server.transport import image_urls
from p2r.serving.answering import Looked, WalkedAnswer, cut_at, find_state
from p2r.serving.pieces import split_reply
from p2r.types import Box, Completion, Trace

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class Replier:
    """Writes the parts of one reply.

    model: as the client named it.
    """

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def write(self, content: str, thought: str, finish: str, usage: JsonObject, look: JsonObject | None) -> JsonObject:
        """Return a whole chat completion."""
        message: JsonObject = {"role": "assistant", "content": content, "refusal": None}
        if thought:
            message["reasoning_content"] = thought
        choice: JsonObject = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return self._frame("chat.completion", [choice], look) | {"usage": usage}

    def chunk(
        self, delta: JsonObject, *, finish: str | None = None, look: JsonObject | None = None, usage: bool = False
    ) -> JsonObject:
        """Return a chunk of a stream.

        Args:
            usage: the stream will end with the usage, so that each chunk says that it has none.
        """
        choice: JsonObject = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._frame("chat.completion.chunk", [choice], look) | ({"usage": None} if usage else {})

    def last_chunk(self, usage: JsonObject) -> JsonObject:
        """Return the chunk that holds the usage and nothing else."""
        return self._frame("chat.completion.chunk", [], None) | {"usage": usage}

    def _frame(self, kind: str, choices: Sequence[JsonObject], look: JsonObject | None) -> JsonObject:
        frame: JsonObject = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return frame | {"choices": list(choices)} | ({} if look is None else {"p2r": look})


def write_event(content: JsonObject | str) -> bytes:
    """Return a server-sent event."""
    text = content if isinstance(content, str) else json.dumps(content)
    return f"data: {text}\n\n".encode()


def describe_look(look: Looked) -> JsonObject:
    """Write the first stage: its state, and the boxes in pixels of the full image and per mille of it."""
    perception = look.perception
    boxes = [_describe_box(box, look.image_wh) for box in perception.boxes]
    return {"stage": "look", "state": find_state(perception), "image_wh": list(look.image_wh), "boxes": boxes}


def describe_walk(answer: WalkedAnswer, *, with_trace: bool = False) -> JsonObject:
    """Write everything about a walk but its texts. Blocks where there are images: call it in a thread."""
    trace = answer.trace
    assert trace.perception is not None and trace.evidence is not None, "a walk that has not failed has both"
    wh = trace.evidence.image_wh
    found: JsonObject = {
        **describe_look(Looked(trace.perception, wh)),
        "stage": "answer",
        "boxes": [_describe_box(box, wh) for box in trace.boxes],
        "mode": answer.mode,
        "image_index": answer.image_index,
        "crops": [list(rect) for rect in trace.evidence.crops],
        "answer": None if trace.answer is None or trace.answer.is_missing else str(trace.answer),
        "stages": {
            name: _describe_stage(answer, stage) for name, stage in zip(("look", "answer"), ANSWERING, strict=True)
        },
        "seconds": round(trace.seconds, 4),
        "fingerprint": trace.fingerprint,
    }
    if with_trace:
        found["trace"] = trace.model_dump(mode="json")
    if answer.images:
        found["images"] = _write_images(answer.images, has_boxes=trace.evidence.annotated)
    return found


def write_answer(answer: WalkedAnswer, stops: tuple[str, ...]) -> tuple[str, str, str]:
    """Return the answer, the reasoning before it, and why it ended.

    The answer is a letter where options were given, else a text; where none can be read, all but the reasoning.
    """
    trace = answer.trace
    found = trace.answer if trace.answer and not trace.answer.is_missing else None
    reply = trace.reasoning.text if trace.reasoning else ""
    thought, whole = split_reply(reply, found.span[0] if found and found.span else None)
    if found:
        whole = found.letter or found.text or ""
    content = cut_at(whole, stops)
    finish = trace.reasoning.finish_reason if trace.reasoning and content == whole else "stop"
    return content, thought, finish


def sum_usage(completions: Sequence[Completion]) -> JsonObject:
    """Add up the tokens of all calls, visual ones where a model reports no others."""
    read = sum(
        sum(call.usage.visual_tokens) if call.usage.prompt_tokens is None else call.usage.prompt_tokens
        for call in completions
    )
    written = sum(call.usage.generated_tokens or 0 for call in completions)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def list_all_calls(trace: Trace) -> list[Completion]:
    """Return every call of both stages."""
    return [call for stage in ANSWERING for call in list_calls(trace, stage)]


def write_models(names: Sequence[str], created: int) -> JsonObject:
    """Return the list of models."""
    entries = [{"id": name, "object": "model", "created": created, "owned_by": "p2r"} for name in names]
    return {"object": "list", "data": entries}


def _describe_box(box: Box, image_wh: tuple[int, int]) -> JsonObject:
    return {"label": box.label, "pixels": list(box.to_pixels(*image_wh)), "per_mille": list(box.xyxy)}


def _describe_stage(answer: WalkedAnswer, stage: Stage) -> JsonObject:
    calls = list_calls(answer.trace, stage)
    asked: JsonObject = {} if answer.prompts is None else {"prompt": answer.prompts.get(stage)}
    return {
        **asked,
        "reply": calls[-1].text if calls else None,
        "num_calls": len(calls),
        "seconds": round(sum(call.seconds for call in calls), 4),
        "usage": sum_usage(calls),
    }


def _write_images(images: tuple[Image.Image, ...], *, has_boxes: bool) -> JsonObject:
    with image_urls(images, "png") as urls:
        return {"annotated": urls[0] if has_boxes else None, "crops": urls[1:] if has_boxes else []}
