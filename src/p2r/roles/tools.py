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
        profile = self.model.profile
        return self.budget or budget_of(profile.budget, self.dialect.budget_pixels, is_stated=profile.most_is_stated)

    async def __call__(self, sample: Sample, evidence: Evidence) -> Completion:
        dialect, budget = self.dialect, self.shown_budget
        if dialect.frame not in (None, self.model.profile.frame):
            raise ConfigError(
                f"{self.model.name} writes boxes in the frame {self.model.profile.frame!r}, and the zoom-in tool of "
                f"{dialect.name} reads {dialect.frame!r}",
                hint="use a model of the Qwen3-VL family, or another mode",
            )
        whole = await asyncio.to_thread(self._open, evidence, budget)
        shown = (await asyncio.to_thread(fit, whole.seen, budget),)
        text = dialect.ask(self.prompts, sample) + dialect.tell(whole.image.size)
        prompt = Prompt("reasoner", dialect.system(self.prompts), text, shown, self.prompts.fingerprint)
        earlier: list[Completion] = []
        reply, is_answered = await self._hold(prompt, whole, earlier)
        for _ in range(dialect.tries - 1):
            if not is_answered:
                earlier.append(reply)
                reply, is_answered = await self._hold(prompt, whole, earlier)
        if not is_answered and dialect.ask_plainly is not None:
            earlier.append(reply)
            plain = replace(prompt, system="", text=dialect.ask_plainly(sample))
            reply = await complete(self.model, plain, self.decoding, budget)
            if "</answer>" not in reply.text:
                reply = reply.model_copy(update={"text": f"<answer>{reply.text}</answer>"})
        return reply.model_copy(update={"earlier": tuple(earlier)})

    async def _hold(self, first: Prompt, whole: View, earlier: list[Completion]) -> tuple[Completion, bool]:
        """Hold a chat; returns its last reply, and whether that is an answer. `earlier` grows by the other replies."""
        dialect, budget = self.dialect, self.shown_budget
        prompt, views, done = first, [whole], list[ToolCall]()
        for number in range(dialect.max_replies):
            reply = await self._ask(prompt, budget)
            text = reply.text
            if looks := tuple(dialect.read_looks(text, whole)):
                reply = reply.model_copy(update={"tool_use": ToolUse(boxes=looks)})
            calls, is_last = dialect.read_calls(text), number + 1 >= dialect.max_replies
            if not calls and (is_last or dialect.tries > 1 or not dialect.asks_again(text)):
                return reply, not dialect.asks_again(text)
            if is_last:
                return reply.model_copy(update={"finish_reason": "length"}), False
            if not calls:
                earlier.append(reply)
                continue
            asked = [replace(call, earlier=tuple(done)) for call in calls]
            parts, use = await asyncio.to_thread(self._answer, asked, views, budget, number)
            reply = reply.model_copy(update={"tool_use": use})
            if use.errors and dialect.errors_end:
                return reply, True
            earlier.append(reply)
            if use.errors and dialect.drops_errors:
                continue
            done += [] if use.errors else calls
            prompt = replace(prompt, later=_go_on(prompt.later, text, parts, continues=dialect.continues))
        raise AssertionError("a chat has a reply")

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
                made = self.dialect.cut(call, views)
                made = [made] if isinstance(made, View) else made
                images = [view for view in made if not view.text]
                if any(is_too_thin(*view.seen.size) for view in images):
                    raise ToolError("the region is too thin to be shown")
                if len(views) + len(images) > self.dialect.max_images:
                    raise ToolError(f"Tool Execution Error no more than {self.dialect.max_images} images can be shown")
                views += images
                answers += made
            except ToolError as error:
                answers.append(error)
        parts = self.dialect.respond(answers, number)
        use = ToolUse(
            boxes=tuple(answer.region for answer in answers if isinstance(answer, View) and answer.region),
            errors=tuple(answer.message for answer in answers if isinstance(answer, ToolError)),
        )
        return tuple(part if isinstance(part, str) else fit(part, budget) for part in parts), use


def _go_on(later: tuple[Turn, ...], text: str, parts: tuple[Part, ...], *, continues: bool) -> tuple[Turn, ...]:
    """Return the turns of a chat with one more reply and what its calls show."""
    if not continues:
        return (*later, Turn("assistant", (text,)), Turn("user", parts))
    begun = later[-1].parts if later else ()
    return (Turn("assistant", (*begun, text, *parts)),)
