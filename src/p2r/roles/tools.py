"""A reasoner that chats: the model may ask to see a part of the image larger, as often as it likes.

This is the "thinking with images" baseline: Qwen3-VL's official zoom-in tool loop (the paper's "official tool use",
appendix E.2 and Figure 11), as Qwen-Agent runs it. The tool is described in the system's words, in the form of the
model's own chat template; the part is shown in the user's next turn. Any model or server that can chat can be used.

The question is worded as for "thinking", so that only the tool makes the difference. Departures: greedy decoding, and
a limit on images; a chat that reaches its limit of calls ends truncated, with its last reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from p2r.dialogue import Budget, Decoding, Model, Prompt, Turn
from p2r.errors import ConfigError, ToolError
from p2r.evidence import Evidence
from p2r.images.budget import fit
from p2r.prompts import PromptSet
from p2r.roles.base import DEFAULT_DECODING, WHOLE, complete, hash_role
from p2r.roles.zoom_tool import ToolCall, View, read_calls, zoom_in
from p2r.types import Box, Completion, Sample, ToolUse


@dataclass(frozen=True, slots=True)
class ToolReasoner:
    """Answers from the whole image and from the parts that it asks to see, whatever was perceived.

    decoding: for each reply.
    max_calls: most replies; Qwen-Agent's limit by default.
    max_images: most images in the chat, the whole image included.
    """

    model: Model
    prompts: PromptSet
    decoding: Decoding = DEFAULT_DECODING.reasoner
    budget: Budget | None = None
    max_calls: int = 20
    max_images: int = 16

    @property
    def fingerprint(self) -> str:
        limits = f"tools {self.max_calls} {self.max_images}"
        return hash_role(self.model, self.prompts, self.decoding, self.budget, limits)

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        if self.model.profile.frame != "per_mille":
            raise ConfigError(
                f"{self.model.name} writes boxes in the frame {self.model.profile.frame!r}, and the zoom-in tool reads "
                "per mille",
                hint="use a model of the Qwen3-VL family, or another mode",
            )
        budget = self.budget or self.model.profile.budget
        image = await asyncio.to_thread(evidence.full_image.fitted, budget)
        system = "\n\n".join(filter(None, (self.prompts.system, self.prompts.tools)))
        prompt = Prompt("reasoner", system, self.prompts.thinking(sample), (image,), self.prompts.fingerprint)
        views = [View(evidence.full_image.image, WHOLE)]
        earlier: list[Completion] = []
        while True:
            reply = await complete(self.model, prompt, self.decoding, budget)
            calls = read_calls(reply.text)
            if not calls:
                return reply.model_copy(update={"earlier": tuple(earlier)})
            if len(earlier) + 1 >= self.max_calls:
                return reply.model_copy(update={"earlier": tuple(earlier), "finish_reason": "length"})
            parts, use = await asyncio.to_thread(self._answer, calls, views, budget)
            earlier.append(reply.model_copy(update={"tool_use": use}))
            turns = (Turn("assistant", (reply.text,)), Turn("user", parts))
            prompt = replace(prompt, later=(*prompt.later, *turns))

    def _answer(
        self, calls: Sequence[ToolCall], views: list[View], budget: Budget
    ) -> tuple[tuple[str | Image.Image, ...], ToolUse]:
        """Answer the calls with texts and images; `views` grows by what is shown."""
        parts: list[str | Image.Image] = []
        boxes: list[Box] = []
        errors: list[str] = []
        for call in calls:
            try:
                if len(views) >= self.max_images:
                    raise ToolError(f"Tool Execution Error no more than {self.max_images} images can be shown")
                views.append(zoom_in(call, views))
                boxes.append(views[-1].region)
                response = fit(views[-1].image, budget)
            except ToolError as error:
                errors.append(error.message)
                response = error.message
            parts += ["\n" if parts else "", "<tool_response>\n", response, "\n</tool_response>"]
        return tuple(part for part in parts if part != ""), ToolUse(boxes=tuple(boxes), errors=tuple(errors))
