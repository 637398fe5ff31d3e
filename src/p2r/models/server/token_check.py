"""Notice when a server looks at other pixels than were sent, because it shrank, enlarged or left out an image.

Images are sized before they are sent, so the number of visual tokens is known; a server's `prompt_tokens` adds the
text's tokens. Without the server's tokenizer these are known only within bounds, which the fewest tokens per character
seen so far narrow. Each kind of finding is logged once.
"""

from __future__ import annotations

import logging

from p2r.errors import count_nouns

FRAME_CHARS = 60
"""Roughly the characters that the chat template adds."""
MOST_CHARS_PER_TOKEN = 40.0
"""More than any tokenizer reaches over a whole prompt; one with whole sentences as tokens reaches about 10."""
SLACK = 1.6
SLACK_TOKENS = 24

logger = logging.getLogger(__name__)


class TokenCheck:
    """Compares the tokens that one server reports with those that were sent."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._told: set[str] = set()
        self._least_per_char: float | None = None

    def compare(self, text: str, visual_tokens: tuple[int, ...], prompt_tokens: int | None) -> str | None:
        """Check the usage that a server reports for one reply.

        Args:
            text: all text that was sent, the system's words included.
            visual_tokens: for each image, by the size that was sent.
            prompt_tokens: as the server reports; None when it does not.

        Returns:
            "shrunk", "enlarged", or None when nothing is wrong or known.
        """
        if prompt_tokens is None or not visual_tokens:
            return None
        num_visual, num_chars = sum(visual_tokens), len(text) + FRAME_CHARS
        num_text = prompt_tokens - num_visual
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
        return None

    def _tell(self, kind: str, message: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            logger.warning("%s", message)
