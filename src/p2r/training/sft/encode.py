"""A demonstration as tokens: what is given, and which of the tokens after it are learned.

Replies are encoded as the policy would have sampled them, each alone and with the token that ends it. Words between two
replies (the next question, and what the chat template writes around it) are given and not learned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from PIL import Image

from p2r.dialogue import Budget, Prompt, Turn
from p2r.errors import DataError
from p2r.images.budget import fit, smart_resize
from p2r.models.local.encoding import THOUGHT, EncodedPrompt, PromptEncoder
from p2r.prompts import find_special_token
from p2r.training.sft.demonstrations import Demonstration


@dataclass(frozen=True, slots=True)
class EncodedDemonstration:
    """Tokens of a conversation.

    prompt: everything up to where the first reply begins.
    token_ids: everything after it. learned: for each of them, whether it is learned.
    """

    prompt: EncodedPrompt
    token_ids: tuple[int, ...]
    learned: tuple[bool, ...]

    @property
    def num_tokens(self) -> int:
        return len(self.prompt.token_ids) + len(self.token_ids)


def count_tokens(row: Demonstration, encoder: PromptEncoder, budget: Budget) -> int:
    """The tokens of a conversation, without decoding its images. Raises as `encode_demonstration`."""
    sizes = [smart_resize(height, width, budget) for width, height in row.image_sizes]
    dot = Image.new("RGB", (budget.factor, budget.factor))  # an image of one token
    num_visual = sum(height * width // budget.factor**2 for height, width in sizes)
    return _encode(row, encoder, (dot,) * len(sizes)).num_tokens - len(sizes) + num_visual


def encode_demonstration(row: Demonstration, encoder: PromptEncoder, budget: Budget) -> EncodedDemonstration:
    """Encode a conversation.

    Args:
        budget: images are sized to it.

    Raises:
        ImageError: an image cannot be decoded, or no model can see it.
        DataError: a text holds a special token of a chat, or the chat template shows an earlier reply differently
            once another turn follows.
        ModelError: the conversation is longer than the model can take.
    """
    return _encode(row, encoder, tuple(fit(image.load(), budget) for image in row.images))


def _encode(row: Demonstration, encoder: PromptEncoder, images: tuple[Image.Image, ...]) -> EncodedDemonstration:
    opening = Prompt("reasoner", row.system, row.turns[0][0], images, "")
    _check_texts(row)
    given = encoder.render(opening)
    token_ids, learned = list[int](), list[bool]()
    for number, (_, reply) in enumerate(row.turns):
        if given.rstrip().endswith(THOUGHT):
            reply = reply.removeprefix(THOUGHT).lstrip()
        own = encoder.tokenize(reply)
        token_ids += own
        learned += [True] * len(own)
        if number + 1 == len(row.turns):
            break
        later = [
            turn
            for (_, told), (question, _) in zip(row.turns[: number + 1], row.turns[1:], strict=False)
            for turn in (Turn("assistant", (told,)), Turn("user", (question,)))
        ]
        longer = encoder.render(replace(opening, later=tuple(later)))
        if not longer.startswith(given + reply):
            raise DataError(
                "the chat template changes a reply when another turn follows it",
                hint="give each reply a row of its own",
            )
        between = encoder.tokenize(longer[len(given + reply) :])
        token_ids += between
        learned += [between[0] in encoder.end_token_ids, *[False] * (len(between) - 1)]
        given = longer
    return EncodedDemonstration(encoder.encode(opening), (*token_ids, encoder.end_token_ids[0]), (*learned, True))


def _check_texts(row: Demonstration) -> None:
    """Refuse special tokens, which would end a turn or stand for an image. A reply may mark objects and boxes."""
    for question, reply in row.turns:
        in_reply = find_special_token(re.sub(r"<\|(object_ref|box|quad)_(start|end)\|>", "", reply))
        if token := find_special_token(row.system + question) or in_reply:
            raise DataError(f"a text holds {token}, a special token of the model", hint="remove it from the text")
