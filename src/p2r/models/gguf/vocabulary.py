"""A checkpoint's tokenizer as llama.cpp reads it: a list of tokens with their kinds, merges, and a known way to split.

llama.cpp splits a text into words before it merges letters, by one of the patterns that it knows by name. Qwen's is
one of them. nano's is not, which keeps the first digit of a coordinate with the comma before it; all else in p2r's
prompts is split alike by the pattern that stands for it in `PRE_TOKENIZERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from pydantic import BaseModel, ValidationError

from p2r.errors import ModelError, excerpt, explain_fault
from p2r.models.checkpoint import read_json

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Kinds of tokens: of text; special; of text, but found in it before it is split; without a meaning."""

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NANO_SPLIT = r"(?:, |\[)[1-9](?=\p{N}{2})|, |\p{N}| ?\p{L}+|[^\s\p{L}\p{N}]|\s"
PRE_TOKENIZERS = {QWEN_SPLIT: "qwen2", NANO_SPLIT: "gpt-2"}
"""Pattern in tokenizer.json -> llama.cpp's name for it."""


class _Added(BaseModel):
    id: int
    content: str
    special: bool = False


class _Pattern(BaseModel):
    Regex: str = ""


class _Split(BaseModel):
    pattern: _Pattern = _Pattern()


class _Sequence(BaseModel):
    pretokenizers: list[_Split]


class _Bpe(BaseModel):
    type: Literal["BPE"]
    vocab: dict[str, int]
    merges: list[tuple[str, str] | str]


class _TokenizerFile(BaseModel):
    model: _Bpe
    added_tokens: list[_Added] = []
    pre_tokenizer: _Sequence


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model, in the order of their ids.

    kinds: of each token.
    merges: pairs of tokens that become one, written with a space between, the most urgent first.
    split: llama.cpp's name for the pattern that splits a text into words.
    is_exact: that pattern is the tokenizer's own.
    """

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    split: str
    is_exact: bool


def read_vocabulary(folder: Path, num_tokens: int) -> Vocabulary:
    """Read the tokenizer of a checkpoint.

    Args:
        num_tokens: of the model's table, which may be larger than the tokenizer needs.

    Raises:
        ModelError: there is no tokenizer.json, or llama.cpp cannot do the same.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} has no tokenizer.json, from which the tokens are taken",
            hint="write one with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    try:
        file = _TokenizerFile.model_validate(read_json(path))
    except ValidationError as error:
        faults = "; ".join(explain_fault(fault) for fault in error.errors())
        raise ModelError(f"{path} is not a byte-level BPE tokenizer as Qwen's is: {faults}") from error
    patterns = [split.pattern.Regex for split in file.pre_tokenizer.pretokenizers if split.pattern.Regex]
    if len(patterns) != 1 or patterns[0] not in PRE_TOKENIZERS:
        raise ModelError(
            f"{path} splits text by {excerpt(' '.join(patterns))}, a pattern that llama.cpp is not known to have",
            hint="export a model with Qwen's tokenizer",
        )
    tokens = [f"[PAD{index}]" for index in range(num_tokens)]
    kinds = [UNUSED] * num_tokens
    entries = [(text, index, NORMAL) for text, index in file.model.vocab.items()]
    entries += [(each.content, each.id, CONTROL if each.special else USER_DEFINED) for each in file.added_tokens]
    for text, index, kind in entries:
        if not 0 <= index < num_tokens:
            raise ModelError(
                f"{path} has a token {index}, {excerpt(text)}, and the model only {num_tokens} of them",
                hint="do the tokenizer and the weights belong together?",
            )
        tokens[index], kinds[index] = text, kind
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in file.model.merges]
    return Vocabulary(tokens, kinds, merges, PRE_TOKENIZERS[patterns[0]], is_exact=patterns[0] == QWEN_SPLIT)


def find_token(vocabulary: Vocabulary, settings: Mapping[str, object], name: str) -> int | None:
    """Return the id of the token that tokenizer_config.json names, such as "pad_token"; None where it names none."""
    named = settings.get(name)
    text = cast("dict[str, object]", named).get("content") if isinstance(named, dict) else named
    return vocabulary.tokens.index(text) if isinstance(text, str) and text in vocabulary.tokens else None
