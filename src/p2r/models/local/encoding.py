"""Turn prompts into token ids and patches, exactly as the family's own processor does, and replies into text.

This is a thin processor: the checkpoint's tokenizer and chat template, and `patches.patchify`. It needs no torchvision,
never resizes, and never truncates: a prompt is passed on whole or refused. The placeholder of an image becomes as many
tokens as the vision tower makes of it.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# The tokenizers of transformers are only partly typed.

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

import numpy as np
from huggingface_hub.utils import logging as hub_logging
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from p2r.dialogue import Prompt, Turn, cut_reply
from p2r.errors import DataError, ModelError, count_nouns
from p2r.models.checkpoint import Checkpoint, read_chat_template
from p2r.models.local.patches import patchify

Bytes: TypeAlias = NDArray[np.uint8]
ChatTurn: TypeAlias = dict[str, str | list[dict[str, str]]]
THOUGHT = "<think>"
"""Some templates begin every reply with it; then a reply's own is left out."""
MARK = "|here|"
"""A text that no chat template changes."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as the model takes it.

    token_ids: with one token per visual token in the images' places.
    patches: (N, 3 * P * P) bytes for each image.
    grids: (1, rows, columns) in patches for each image.
    visual_tokens: their number for each image.
    seed: of the tokens that are drawn; None for that of the decoding.
    on_token: told each token of the reply and its place, in the thread that generates; not the token that ends it.
    """

    token_ids: tuple[int, ...]
    patches: tuple[Bytes, ...]
    grids: tuple[tuple[int, int, int], ...]
    visual_tokens: tuple[int, ...]
    seed: int | None = None
    on_token: Callable[[int, int], None] | None = field(default=None, compare=False, repr=False)


class PromptEncoder:
    """Encodes prompts for one checkpoint; safe to use from several threads.

    Raises:
        ModelError: the tokenizer cannot be loaded, or the checkpoint has no chat template.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
        except Exception as error:  # the errors of tokenizer files are not documented
            raise ModelError(f"the tokenizer in {checkpoint.folder} cannot be loaded: {error}") from error
        self._tokenizer: PreTrainedTokenizerBase = tokenizer
        self._template = read_chat_template(checkpoint.folder) or tokenizer.chat_template
        if not isinstance(self._template, str):
            raise ModelError(
                f"the checkpoint {checkpoint.folder} has no chat template",
                hint="add chat_template.jinja or chat_template.json of the model that it was made from",
            )
        if not self.end_token_ids:
            raise ModelError(
                f"the checkpoint {checkpoint.folder} names no token that ends a reply",
                hint="add eos_token_id to its generation_config.json",
            )
        # The Rust tokenizer itself: its wrapper changes state at each call and is not safe in threads.
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """The tokens that end a reply: those of generation_config.json, else the tokenizer's."""
        own = self._tokenizer.eos_token_id
        return self._checkpoint.end_token_ids or ((own,) if isinstance(own, int) else ())

    def encode(self, prompt: Prompt) -> EncodedPrompt:
        """Make token ids and patches.

        Raises:
            DataError: the text holds the placeholder of an image.
            ImageError: an image's sides are not multiples of the patch factor.
            ModelError: the prompt is longer than the model can take, or the chat template fails.
        """
        patches, grids = [], []
        for image in prompt.all_images:
            rows, grid = patchify(image, self._checkpoint.patches)
            patches.append(rows)
            grids.append(grid)
        merged = self._checkpoint.patches.merge_size**2
        visual_tokens = tuple(rows * columns // merged for _, rows, columns in grids)
        token_ids = self._expand(self.tokenize(self.render(prompt)), visual_tokens)
        limit = self._checkpoint.max_positions
        if limit is not None and len(token_ids) > limit:
            num_visual = sum(visual_tokens)
            is_wordy = num_visual < limit / 2
            raise ModelError(
                f"the prompt has {count_nouns(len(token_ids), 'token')} ({num_visual} visual), more than the model's "
                f"{limit}",
                hint="shorten the question and its options" if is_wordy else "lower `max_pixels` or send fewer images",
            )
        return EncodedPrompt(token_ids, tuple(patches), tuple(grids), visual_tokens)

    def render(self, prompt: Prompt) -> str:
        """Return the chat text up to where the model goes on, with one placeholder per image. Raises ModelError."""
        turns: list[ChatTurn] = [{"role": "system", "content": prompt.system}] if prompt.system else []
        turns += [{"role": turn.role, "content": _content(turn)} for turn in prompt.turns]
        if prompt.begun is None:
            return self._fill_template(turns)
        text = self._fill_template(turns[:-1])
        begun = "".join(part if isinstance(part, str) else self._write_image() for part in prompt.begun.parts)
        return text + (begun.removeprefix(THOUGHT) if text.rstrip().endswith(THOUGHT) else begun)

    def _write_image(self) -> str:
        """Return what the chat template writes for an image between two texts. Raises ModelError."""
        parts = [{"type": "text", "text": MARK}, {"type": "image"}, {"type": "text", "text": MARK}]
        return self._fill_template([{"role": "user", "content": parts}]).split(MARK)[1]

    def _fill_template(self, turns: Sequence[ChatTurn]) -> str:
        """Return the text of a chat up to where a reply begins. Raises ModelError."""
        try:
            text = self._tokenizer.apply_chat_template(
                list(turns),  # pyright: ignore[reportArgumentType]  # its annotation knows text-only chats
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # of templates that ask; a role's prompt says itself whether to think
            )
        except Exception as error:  # a template is a program and may raise anything
            raise ModelError(f"the chat template of {self._checkpoint.folder} failed: {error}") from error
        return str(text)

    def decode(self, token_ids: Sequence[int], stop: Sequence[str] = ()) -> str:
        """Return the text of a reply, without special tokens, up to the first stop string."""
        return cut_reply(self._backend.decode(list(token_ids), skip_special_tokens=True), stop)

    def find_stops(self, stop: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
        """Return what tells whether the last of some tokens completes one of the stop strings; None without any."""
        if not stop:
            return None
        most = max(len(mark.encode()) for mark in stop)  # tokens that it may have: each with a text has a byte or more

        def ends(token_ids: Sequence[int]) -> bool:
            written = (token for token in reversed(token_ids) if self.decode([token]))  # special ones have none
            text = self.decode([*islice(written, most)][::-1])
            return any(mark in text for mark in stop)

        return ends

    def first_ids(self, words: Sequence[str]) -> tuple[int, ...]:
        """Return the first token of each word.

        Raises:
            ModelError: two of the words begin with the same token, or one of them has no token.
        """
        tokens = [self.tokenize(word)[:1] for word in words]
        if [] in tokens or len({token[0] for token in tokens}) < len(words):
            raise ModelError(
                f"the tokenizer of {self._checkpoint.folder} cannot tell the beginnings of {', '.join(words)} apart"
            )
        return tuple(token[0] for token in tokens)

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, without any that the chat template adds."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def _expand(self, token_ids: Sequence[int], visual_tokens: Sequence[int]) -> tuple[int, ...]:
        placeholder = self._checkpoint.image_token_id
        num_found = sum(token == placeholder for token in token_ids)
        if num_found > len(visual_tokens):
            name = self._backend.id_to_token(placeholder)
            raise DataError(f"the question holds {name}, which stands for an image", hint="remove it from the text")
        if num_found < len(visual_tokens):
            raise ModelError(
                f"the chat template of {self._checkpoint.folder} places {num_found} of {len(visual_tokens)} images"
            )
        counts = iter(visual_tokens)
        expanded: list[int] = []
        for token in token_ids:
            expanded.extend([token] * next(counts) if token == placeholder else (token,))
        return tuple(expanded)


def _content(turn: Turn) -> str | list[dict[str, str]]:
    """Return a reply as its text, which all templates take, and a question in parts."""
    if turn.role == "assistant":
        return turn.text
    return [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in turn.parts]


@contextlib.contextmanager
def quiet_transformers() -> Generator[None, None, None]:
    """Silence the bars and warnings that `from_pretrained` writes to stderr; what matters in them is checked here.

    Those of huggingface_hub as well: where it cannot be reached, it says so at each of five attempts.
    """
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    hub_level = hub_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if bars:
            transformers_logging.enable_progress_bar()
