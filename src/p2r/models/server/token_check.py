"""Notice when a server looks at other images than were sent: it merged, shrank, enlarged or left out some.

Images are sized before they are sent, so the number of visual tokens is known; a server's `prompt_tokens` adds the
text's tokens. Where these were counted too (`TextCounts`), every change shows. Else they are known only within bounds,
which the fewest tokens per character seen so far narrow; then a small image among much text may be lost unnoticed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

from PIL import Image

from p2r.dialogue import Prompt, Turn
from p2r.errors import ConfigError, UnseenImageError, count_nouns, excerpt
from p2r.types import Alteration

FRAME_CHARS = 60
"""Roughly the characters that the chat template adds."""
MOST_CHARS_PER_TOKEN = 40.0
"""More than any tokenizer reaches over a whole prompt; one with whole sentences as tokens reaches about 10."""
SLACK = 1.6
SLACK_TOKENS = 24
MOST_FRAME_TOKENS = 8
"""Tokens that a template puts around an image. Qwen's have two."""
MOST_TEXTS = 10_000
"""Texts whose tokens are remembered."""

ImageCheck = Literal["auto", "always", "never"]
"""When a reply to images that a server has altered is a failure. `auto`: where it is near and of a known family."""

logger = logging.getLogger(__name__)


def read_image_check(given: object) -> ImageCheck:
    """Return an image check. Raises ConfigError when there is no such check."""
    names: dict[object, ImageCheck] = {name: name for name in get_args(ImageCheck)}
    if given not in names:
        raise ConfigError(f"`image_check` is {excerpt(given)}", hint=f"it is one of {', '.join(get_args(ImageCheck))}")
    return names[given]


class TokenCheck:
    """Compares the tokens that one server reports with those that were sent. Each kind of guess is logged once."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._told: set[str] = set()
        self._least_per_char: float | None = None

    def compare(
        self,
        text: str,
        visual_tokens: tuple[int, ...],
        prompt_tokens: int | None,
        text_tokens: int | None = None,
    ) -> Alteration:
        """Check the usage that a server reports for one reply.

        Args:
            text: all text that was sent, the system's words included.
            visual_tokens: for each image, by the size that was sent.
            prompt_tokens: as the server reports; None when it does not.
            text_tokens: what it counts for the same prompt without images; None where that is not known.

        Returns:
            "shrunk" (also for a lost image), "enlarged", or "" when nothing is wrong or known.
        """
        if not prompt_tokens or not visual_tokens:
            return ""
        num_visual, num_chars = sum(visual_tokens), len(text) + FRAME_CHARS
        num_text = prompt_tokens - num_visual
        if text_tokens is not None:
            most = text_tokens + MOST_FRAME_TOKENS * len(visual_tokens)
            return "shrunk" if num_text < text_tokens else "enlarged" if num_text > most else ""
        if num_text < num_chars / MOST_CHARS_PER_TOKEN:
            self._tell(
                "shrunk",
                f"{self._server} counts {prompt_tokens} tokens for a prompt whose images alone have {num_visual}: it "
                "shrinks images or leaves them out. Set `max_pixels` to what it allows, or raise its limit.",
            )
            return "shrunk"
        most = len(text.encode()) + FRAME_CHARS
        if self._least_per_char is not None:
            most = min(most, SLACK * self._least_per_char * num_chars + SLACK_TOKENS)
        if num_text > most:
            self._tell(
                "enlarged",
                f"{self._server} counts {prompt_tokens} tokens for {count_nouns(num_visual, 'visual one')} and "
                f"{count_nouns(len(text), 'letter')}: it enlarges images. Its processor has a higher minimum of pixels "
                "than was assumed.",
            )
            return "enlarged"
        self._least_per_char = min(num_text / num_chars, self._least_per_char or num_text / num_chars)
        return ""

    def _tell(self, kind: str, message: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            logger.warning("%s", message)


class TextCounts:
    """The tokens that a server counts for texts alone, each asked for once. It belongs to one event loop."""

    def __init__(self) -> None:
        self._counts: dict[int, asyncio.Future[int | None]] = {}

    async def find(self, prompt: Prompt, ask: Callable[[Prompt], Awaitable[int | None]]) -> int | None:
        """Return the tokens of a prompt without its images.

        Args:
            ask: counts the tokens of a prompt without images; None where the server does not tell.
        """
        key = hash((prompt.system, tuple((turn.role, turn.text) for turn in prompt.turns)))
        if key not in self._counts:
            if len(self._counts) >= MOST_TEXTS:
                self._counts.clear()
            self._counts[key] = asyncio.ensure_future(ask(drop_images(prompt)))
        count = await asyncio.shield(self._counts[key])
        if count is None:
            self._counts.pop(key, None)  # it may tell the next time
        return count


def explain_guess(prompt_tokens: int | None) -> dict[str, str]:
    """Say why images are not compared for sure, for a warning: by the count that a server does not report."""
    if not prompt_tokens:
        return {"prompt_tokens": "does not report a prompt's tokens, so images that it alters go unnoticed"}
    return {"text_tokens": "does not count the tokens of a text alone, so images that it alters are only guessed at"}


def drop_images(prompt: Prompt) -> Prompt:
    """Return the prompt without its images."""
    later = tuple(Turn(turn.role, tuple(part for part in turn.parts if isinstance(part, str))) for turn in prompt.later)
    return replace(prompt, images=(), later=later)


def explain_alteration(
    server: str, found: Alteration, images: Sequence[Image.Image], *, num_sent: int, num_seen: int
) -> UnseenImageError:
    """Return the error for a prompt whose images a server did not see as they were sent.

    The sentence is the same for all such prompts, so that they are counted together; the hint has the numbers.

    Args:
        images: those that were sent side by side, in order.
        num_sent, num_seen: visual tokens.
    """
    if found == "enlarged":
        did = "it enlarges some"
        advice = (
            "its processor has a higher minimum; name the model that it serves with `profile`, or raise `max_pixels`"
        )
    elif any(one.size == other.size for one, other in itertools.pairwise(images)):
        did = "it merges, shrinks or leaves out some"
        advice = (
            "llama.cpp of June to August 2026 (in Ollama 0.32, too) merges neighboring images of one size: update it"
        )
    else:
        did = "it shrinks some or leaves them out"
        advice = "name the model that it serves with `profile`, set `max_pixels` to what it allows, or raise its limit"
    return UnseenImageError(
        f"{server} does not see the images as they were sent: {did}",
        hint=f"it counts {count_nouns(max(num_seen, 0), 'image token')}, {num_sent:,} were sent; {advice}; "
        "to have such replies scored, give `image_check='never'`",
    )
