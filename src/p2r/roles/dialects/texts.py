"""The words of the dialects: text files beside this one, a folder for each, in p2r's own words.

Names of tools, tags, and keys are the authors'; a checkpoint was trained on them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

SHIPPED_TEXTS = Path(__file__).parent / "texts"
_PLACEHOLDER = re.compile(r"\{(action|observation|error|width|height)\}")


def load_texts(name: str) -> Mapping[str, str]:
    """Return the texts of a dialect by their files' stems."""
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted((SHIPPED_TEXTS / name).glob("*.txt"))}


def hash_texts(texts: Mapping[str, str]) -> str:
    """Return a short hash of all texts, as part of a fingerprint."""
    return hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()[:12]


def fill(text: str, **values: object) -> str:
    """Fill the placeholders that have values in one pass; other braces are left alone."""
    return _PLACEHOLDER.sub(lambda match: str(values[match[1]]) if match[1] in values else match[0], text)
