"""A reasoner that chats: the model may ask to see a part of the image larger, as often as it likes.

This is the "thinking with images" of the field. How a checkpoint asks, and what it is shown, is its `Dialect`: by
default Qwen3-VL's official zoom-in tool as Qwen-Agent runs it (the paper's "official tool use", appendix E.2 and
Figure 11). Any model or server that can chat can be used.

The question of that dialect is worded as for "thinking", so that only the tool makes the difference. Departures: greedy
decoding, and a limit on images; a chat that reaches its limit of replies ends truncated, with its last reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2r.dialogue import Budget, Decoding, Model, Prompt, Turn
from p2r.errors import ConfigError, ToolError
from p2r.evidence import Evidence
from p2r.images.budget import fit, is_too_thin
from p2r.prompts import PromptSet
from p2r.roles.base import DEFAULT_DECODING, WHOLE, complete, hash_role
from p2r.roles.dialects.base import Dialect, Part, ToolCall, View, budget_of
from p2r.roles.dialects.qwen3_vl import QWEN3_VL
from p2r.types import Completion, Sample, ToolUse


@dataclass(frozen=True, slots=True)
class ToolReasoner:
    """Answers from the whole image and from the parts that it asks to see, whatever was perceived.

    decoding: for each reply.
    budget: pixels of each image; those of the dialect or the model when None.
    """

    model: Model
    prompts: PromptSet
    decoding: Decoding = DEFAULT_DECODING.reasoner
    budget: Budget | None = None
    dialect: Dialect = QWEN3_VL

    @property
    def fingerprint(self) -> str:
        return hash_role(self.model, self.prompts, self._stopping, self.shown_budget, self.dialect.fingerprint)

    @property
    def _stopping(self) -> Decoding:
        """The decoding, with the stop strings of the dialect."""
        return self.decoding.model_copy(update={"stop": self.dialect.stop})

    @property
    def shown_budget(self) -> Budget:
        """The pixels of each image."""
        return self.budget or budget_of(self.model.profile.budget, self.dialect.budget_pixels)

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        dialect, budget = self.dialect, self.shown_budget
        if dialect.frame not in (None, self.model.profile.frame):
            raise ConfigError(
                f"{self.model.name} writes boxes in the frame {self.model.profile.frame!r}, and the zoom-in tool of "
                f"{dialect.name} reads {dialect.frame!r}",
                hint="use a model of the Qwen3-VL family, or another mode",
            )
        views = [await asyncio.to_thread(self._open, evidence, budget)]
        first = (await asyncio.to_thread(fit, views[0].seen, budget),)
        prompt = Prompt(
            "reasoner", dialect.system(self.prompts), dialect.ask(self.prompts, sample), first, self.prompts.fingerprint
        )
        earlier: list[Completion] = []
        while True:
            reply = await self._ask(prompt, budget)
            text = reply.text
            if looks := tuple(dialect.read_looks(text, views[0])):
                reply = reply.model_copy(update={"tool_use": ToolUse(boxes=looks)})
            calls, is_last = dialect.read_calls(text), len(earlier) + 1 >= dialect.max_replies
            if not calls and (is_last or not dialect.asks_again(text)):
                return reply.model_copy(update={"earlier": tuple(earlier)})
            if is_last:
                return reply.model_copy(update={"earlier": tuple(earlier), "finish_reason": "length"})
            if not calls:
                earlier.append(reply)
                continue
            parts, use = await asyncio.to_thread(self._answer, calls, views, budget, len(earlier))
            reply = reply.model_copy(update={"tool_use": use})
            if use.errors and dialect.errors_end:
                return reply.model_copy(update={"earlier": tuple(earlier)})
            earlier.append(reply)
            prompt = replace(prompt, later=(*prompt.later, Turn("assistant", (text,)), Turn("user", parts)))

    async def _ask(self, prompt: Prompt, budget: Budget) -> Completion:
        """Return the next reply, with what the dialect begins it with. Raises as the model does."""
        begun = self.dialect.begun
        if not begun:
            return await complete(self.model, prompt, self._stopping, budget)
        prompt = replace(prompt, later=(*prompt.later, Turn("assistant", (begun,))))
        reply = await complete(self.model, prompt, self._stopping, budget)
        return reply.model_copy(update={"text": begun + reply.text.removeprefix(begun)})  # some say it again

    def _open(self, evidence: Evidence, budget: Budget) -> View:
        """Return the whole image as the chat's first view."""
        full = evidence.full_image
        shown = full.fitted(budget) if self.dialect.show is None else self.dialect.show(full.image)
        return View(shown if self.dialect.cuts_from_shown else full.image, WHOLE, shown)

    def _answer(
        self, calls: Sequence[ToolCall], views: list[View], budget: Budget, number: int
    ) -> tuple[tuple[Part, ...], ToolUse]:
        """Answer the calls with texts and images; `views` grows by what is shown."""
        answers: list[View | ToolError] = []
        for call in calls:
            try:
                if len(views) >= self.dialect.max_images:
                    raise ToolError(f"Tool Execution Error no more than {self.dialect.max_images} images can be shown")
                view = self.dialect.cut(call, views)
                if is_too_thin(*view.seen.size):
                    raise ToolError("the region is too thin to be shown")
                views.append(view)
                answers.append(view)
            except ToolError as error:
                answers.append(error)
        parts = self.dialect.respond(answers, number)
        use = ToolUse(
            boxes=tuple(answer.region for answer in answers if isinstance(answer, View) and answer.region),
            errors=tuple(answer.message for answer in answers if isinstance(answer, ToolError)),
        )
        return tuple(part if isinstance(part, str) else fit(part, budget) for part in parts), use
