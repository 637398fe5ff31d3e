"""The nano tokenizer: byte-level BPE of some 1,200 pieces that reads and writes the prompts of its big siblings.

The fixed lines of the shipped prompt sets and the pieces of the box JSON are single tokens, so that a prompt is
verbatim and short. So are the words of the trained wordings, and the colors, shapes, patterns and sides.

Numbers: the token that opens a coordinate holds its hundreds digit, `, 2` or `[2`; a bare `, ` or `[` opens one below
100. So every coordinate begins with a choice of ten, and two more digits follow a hundred without fail. With one token
per digit most wrong coordinates had lost one: after `2`, nothing tells 20 from 220. The text is the same JSON.

A letter of an option is the same token wherever it is written, and in a printed code each character is one token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from p2r.benchmarks.needles.scene import COLORS, PATTERNS, SHAPES
from p2r.prompts import PromptSet

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
BOX_OPEN, BOX_NEXT, BOX_LABEL, BOX_CLOSE = '[{"bbox_2d": ', '"}, {"bbox_2d": ', '], "label": "', '"}]'
NUMBER_OPENERS = ("[", ", ")
WORDS = (*COLORS, *SHAPES, *PATTERNS, "left", "right")
ROLES = ("perceiver", "reasoner", "reasoner_without_evidence", "thinking", "direct")
_NUMBER = r"(?:, |\[)[1-9](?=\p{N}{2})|, |\p{N}"
_FRAMES = (
    "Question: What pattern is on the? What patterns are on the and the? How many of the and the are?",
    "Is the to the left or right of the? Is there a in the image? yes no Yes No What text code is printed on the",
    "\nOptions:\nChoices:\nAnswer: The choices are listed below:",
    "system user assistant",
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type in ('image', 'image_url') or 'image' in part -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def build_tokenizer(sets: Sequence[PromptSet], wordings: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make the tokenizer.

    Args:
        sets: the lines of their prompts become single tokens.
        wordings: every word in these texts becomes a single token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"{_NUMBER}| ?\p{{L}}+|[^\s\p{{L}}\p{{N}}]|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,  # more than there are: the words alone decide
        min_frequency=20,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus([*wordings, *(text for each in sets for text in _prompts(each))]), trainer)
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in SPECIAL])
    pieces = [*TAGS, BOX_OPEN, BOX_NEXT, BOX_LABEL, BOX_CLOSE, "JSON", *fixed_lines(sets)]
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in pieces])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        additional_special_tokens=list(SPECIAL[1:]),
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    for word in WORDS:
        for form in (word, " " + word):
            if len(fast.encode(form, add_special_tokens=False)) != 1:
                raise AssertionError(f"{form!r} is not one token")
    return fast


def fixed_lines(sets: Iterable[PromptSet]) -> list[str]:
    """Every line of the sets' prompts that holds no placeholder, longest first so that none hides another."""
    lines = {line.rstrip() for each in sets for text in _prompts(each) for line in text.splitlines()}
    return sorted((line for line in lines if line and not re.search(r"\{(question|\w+_form)\}", line)), key=_by_length)


def _by_length(line: str) -> tuple[int, str]:
    return -len(line), line


def _prompts(prompts: PromptSet) -> list[str]:
    """The texts of a set that ask for an answer or boxes at once, and the system's words."""
    return [
        text for key, text in prompts.texts.items() if key in ("system", *ROLES) or key.startswith(("answer", "direct"))
    ]


def _corpus(texts: Iterable[str]) -> list[str]:
    """What the pieces are learned from: each word often, as it is written, and the openers of numbers.

    A word in capitals is left out, so that no two capitals are ever one piece: option letters and codes need them.
    """
    found = {word for text in (*texts, *_FRAMES) for word in re.findall(r" ?[^\W\d_]+", text)}
    words = sorted(word for word in found if not word.isupper())
    needles = [form for word in WORDS for form in (word, " " + word)]
    numbers = [f"{opener}{digit}00" for opener in NUMBER_OPENERS for digit in range(1, 10)]
    return [*needles * 60, *words * 40, *numbers * 60, *[", "] * 60]
