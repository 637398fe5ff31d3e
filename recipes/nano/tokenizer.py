"""The nano tokenizer: byte-level BPE of some 400 pieces that reads and writes exactly the prompts of its big siblings.

Fixed sentences of the prompt set and pieces of the box JSON are single tokens, so a prompt is verbatim and short;
digits are one token each, as in Qwen's own tokenizer; colors, shapes, patterns and sides are one token each.
"""

from __future__ import annotations

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
BOX_OPEN, BOX_NEXT, BOX_LABEL, BOX_CLOSE, COMMA = '[{"bbox_2d": [', '"}, {"bbox_2d": [', '], "label": "', '"}]', ", "
WORDS = (*COLORS, *SHAPES, *PATTERNS, "left", "right")

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


def build_tokenizer(prompts: PromptSet) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    words_and_single_signs = Regex(r"\p{N}|[^\s\p{L}\p{N}]| ?\p{L}+|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words_and_single_signs, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=440, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in SPECIAL])
    sentences = fixed_sentences(prompts)
    pieces = [*TAGS, BOX_OPEN, BOX_NEXT, BOX_LABEL, BOX_CLOSE, COMMA, *sentences]
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


def fixed_sentences(prompts: PromptSet) -> list[str]:
    """Every line of the prompt set that holds no placeholder, longest first so that none hides another."""
    texts = [text for key, text in prompts.texts.items() if key != "judge"]
    lines = {line.rstrip() for text in texts for line in text.splitlines() if "{question}" not in line}
    return sorted((line for line in lines if line and "_form}" not in line), key=len, reverse=True)


def _corpus() -> list[str]:
    """Texts from which the pieces are learned: each word often, with and without its blank, and the frames of the
    questions."""
    frames = [
        "Question: What pattern is on the?",
        "Question: What patterns are on the and the?",
        "Question: Is the to the left or right of the?",
        "\nOptions:\nA. and\nB. and\nC. and\nD. and",
        "system user assistant",
    ]
    return [form for word in WORDS for form in (word, " " + word)] * 60 + frames * 40
