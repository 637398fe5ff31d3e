"""Fixed replies in place of a model, for tests and documentation, and to try p2r without any weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

from p2r.dialogue import Decoding, ModelProfile, Prompt, Role, cut_reply, visual_tokens
from p2r.errors import ConfigError, ModelError, reason_of
from p2r.models.profiles import PROFILES, FamilyName, profile_for
from p2r.types import Completion, Frame, Usage

Replies = str | Sequence[str] | Callable[[Prompt], str]
"""The same reply every time, replies in the order of the calls, or a function of the prompt."""


class ScriptedModel:
    """A model that says what it was told to say.

    Args:
        replies: the replies of each role. A role without replies, or whose replies are used up, raises ModelError.
        profile: the frame and budget of the model that it stands for; Qwen3-VL's by default.

    Example:
        >>> model = ScriptedModel({"perceiver": '[{"bbox_2d": [10, 20, 30, 40], "label": "sail"}]',
        ...                        "reasoner": "<think>A star.</think><answer>A</answer>"})
    """

    def __init__(
        self,
        replies: Mapping[Role, Replies],
        *,
        name: str = "scripted",
        profile: ModelProfile = PROFILES["qwen3_vl"],
    ) -> None:
        self.name, self.profile = name, profile
        self._replies = dict(replies)
        self._left: dict[Role, Iterator[str]] = {
            role: iter(given) for role, given in replies.items() if not isinstance(given, str) and not callable(given)
        }

    @classmethod
    def from_file(
        cls,
        path: Path,
        *,
        family: FamilyName | None = None,
        frame: Frame | None = None,
        max_pixels: int | None = None,
    ) -> ScriptedModel:
        """Read replies from JSON: `{"perceiver": "..." or ["...", ...], "reasoner": ..., "judge": ...}`.

        Args:
            family, frame, max_pixels: those of the model that it stands for; Qwen3-VL's by default.

        Raises:
            ConfigError: the file cannot be read or holds something else, or `max_pixels` is not usable.
        """
        hint = 'it should read like {"perceiver": ["[]"], "reasoner": "<answer>A</answer>"}'
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"the replies in {path} cannot be read: {reason_of(error)}",
                hint="check the path and the working directory",
            ) from error
        except ValueError as error:
            raise ConfigError(f"the replies in {path} cannot be read: {reason_of(error)}", hint=hint) from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path} does not hold a JSON object", hint=hint)
        for role, given in cast("dict[str, object]", content).items():
            if role not in get_args(Role):
                raise ConfigError(f"{path} has replies for {role!r}, which is not a role", hint=hint)
            if not isinstance(given, (str, list)) or not all(
                isinstance(text, str) for text in cast("list[object]", given)
            ):
                raise ConfigError(f"{path}: the replies of {role!r} are neither a text nor a list of texts", hint=hint)
        profile = profile_for("qwen3-vl", family=family, frame=frame, max_pixels=max_pixels)
        return cls(cast("dict[Role, Replies]", content), name=f"scripted:{path.name}", profile=profile)

    async def complete(self, prompt: Prompt, decoding: Decoding) -> Completion:
        """Return the next reply for the prompt's role, as if its first word were certain. Raises ModelError."""
        usage = Usage(visual_tokens=visual_tokens(prompt.all_images, self.profile.budget.factor))
        text = cut_reply(self._next(prompt), decoding.stop)
        return Completion(
            text=text,
            finish_reason="stop",
            model=self.name,
            usage=usage,
            first_probs=tuple(float(text.startswith(word)) for word in decoding.first_words),
        )

    def _next(self, prompt: Prompt) -> str:
        given = self._replies.get(prompt.role)
        if given is None:
            raise ModelError(f"the script has no reply for the {prompt.role}", hint=f"it has {sorted(self._replies)}")
        if isinstance(given, str):
            return given
        if callable(given):
            return given(prompt)
        text = next(self._left[prompt.role], None)
        if text is None:
            raise ModelError(f"the replies for the {prompt.role} are used up: the script has {len(given)}")
        return text
