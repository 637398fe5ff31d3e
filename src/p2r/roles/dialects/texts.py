"""The words of the dialects: text files beside this one in p2r's own words, or the authors' from their repository.

Names of tools, tags, and keys are the authors' in both; a checkpoint was trained on all of theirs. `import_texts` takes
them out of a checkout that the user has, and keeps them in the user's folder; what it takes is known by its SHA-256.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from p2r.errors import ConfigError, StorageError, reason_of
from p2r.files import explain_write_errors, replace_file

SHIPPED_TEXTS = Path(__file__).parent / "texts"
_PLACEHOLDER = re.compile(r"\{(action_turn|observation_turn|error|width|height)\}")
_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
"""The place of the image in the authors' texts; "<image>" in ours."""


class Constant(NamedTuple):
    """A text in the authors' repository.

    sha256: of the text in UTF-8.
    form: what p2r makes of it, where the authors' code puts something before it.
    """

    file: str
    sha256: str
    form: str = "{text}"


_EVAL_VSTAR = "eval/eval_vstar.py"
_CONSTANTS = "verl/trainer/constants.py"
_THYME = "eval/VLMEvalKit/vlmeval/vlm/thyme"
AUTHORS: Mapping[str, Mapping[str, Constant]] = {
    "deepeyes": {
        "system": Constant(_EVAL_VSTAR, "1fc5b8b5ebdc9b24d6a9281071222872c8542dd65a4a4be1e70d9760c3a7f99f"),
        "suffix": Constant(_EVAL_VSTAR, "e46e076069f511f848e9e6e213ee98b0576b268ac8eab38649e0b75608305e42"),
    },
    "mini-o3": {
        "system": Constant(_CONSTANTS, "1f02ab1e7ee85e5526049e4185ed54be590a89fd0633c66cf7d2f9b053169350"),
        "observation": Constant(_CONSTANTS, "458eedb7fa145920ea2e32034124dd2cadd073c26e3905ad1d99403a2a528967"),
        "error": Constant(
            _CONSTANTS, "45cd090790afb463c38487c608fa1945ea99815480fb2bbc02c1af5cc327b290", "Error: {error}.\n{text}"
        ),
    },
    "pixel-reasoner": {
        "guideline": Constant(
            "curiosity_driven_rl/openrlhf/datasets/prompts_dataset.py",
            "a03bb96ccd7237681585742bbe573321bdaeccf2ce62208974b878391e674944",
        )
    },
    "thyme": {
        "system": Constant(f"{_THYME}/utils.py", "c5e7db63596377f9a1afef0dd131d282b2f9e6c873058c056c5c0aa5a89f99a7"),
        "path": Constant(f"{_THYME}/utils.py", "bc5553a6b01c2058739df7eb617c96c910e022d3120a05fba735cafff94ff324"),
        "size": Constant(f"{_THYME}/utils.py", "1543c16db204bd994449b6c3aa2cb33ace339d6586228c5dad82bfeec82216f5"),
        "form": Constant(f"{_THYME}/utils.py", "b7a0f4db31f2044a2c320b2bcb89fcbf277583c633fb83bf093ca278133fd873"),
        "plain": Constant(f"{_THYME}/utils.py", "6304e47cf3f253899a2691e3321efef5ff439e401d3181bcb78194d28920a550"),
        "choose": Constant(f"{_THYME}/prompt.py", "a103e332a608e14c0d727d2ce44ee1e58e2faed7b5c3f57baea1fb0dbafbf41d"),
        "short": Constant(f"{_THYME}/prompt.py", "28baa8286f2a18cc140bd6a166e4e791127315f2c7a8b474f6b2bf51170c8f46"),
    },
    "treevgr": {
        "system": Constant("inference_treebench.py", "6f33aa8c3bb32c13104077802a6503628406a0d1d84849a772fb075657967477")
    },
    "zwz": {
        "system": Constant(
            "mm-eval/infer_without_tool.py", "16e63def923a4159d54877a026cd183a86286ca6b2a9924a719ad08f938712b7"
        )
    },
}
"""The texts that can be taken, by dialect and by the stem of our file."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The words of a dialect.

    words: by the stems of the files.
    source: whose they are.
    """

    words: Mapping[str, str]
    source: Literal["p2r's words", "the authors' words"]

    def __getitem__(self, key: str) -> str:
        return self.words[key]

    @property
    def fingerprint(self) -> str:
        """Short hash of all texts."""
        return hashlib.sha256(json.dumps(dict(self.words), sort_keys=True).encode()).hexdigest()[:12]


def load_texts(name: str) -> Texts:
    """Return the texts of a dialect: the authors' where they were imported, else ours.

    Raises:
        StorageError: an imported text cannot be read.
    """
    folder, imported = SHIPPED_TEXTS / name.replace("-", "_"), imported_folder() / name
    words = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.txt"))}
    if not imported.is_dir():
        return Texts(words, "p2r's words")
    for key in AUTHORS[name]:
        file = imported / f"{key}.txt"
        try:
            words[key] = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(
                f"{file} cannot be read: {reason_of(error)}",
                hint=f"import the texts of {name} again, or remove the folder {imported}",
            ) from error
    return Texts(words, "the authors' words")


def imported_folder() -> Path:
    """Return the user's folder of imported texts: below XDG_DATA_HOME, or in ~/.local/share."""
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "p2r" / "dialects"


def import_texts(name: str, checkout: Path) -> Path:
    """Take the authors' texts of a dialect out of a checkout of their repository; returns the folder that keeps them.

    Raises:
        ConfigError: the authors of this dialect have no texts to take, or the checkout does not hold them as they were.
        StorageError: they cannot be written.
    """
    if name not in AUTHORS:
        raise ConfigError(f"there are no texts to import for {name!r}", hint=f"dialects: {', '.join(AUTHORS)}")
    found = {key: _find_text(checkout, constant) for key, constant in AUTHORS[name].items()}
    folder = imported_folder() / name
    for key, text in found.items():
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / f"{key}.txt", text)
    return folder


def fill(text: str, **values: object) -> str:
    """Fill the placeholders that have values in one pass; other braces are left alone."""
    return _PLACEHOLDER.sub(lambda match: str(values[match[1]]) if match[1] in values else match[0], text)


def _find_text(checkout: Path, constant: Constant) -> str:
    """Return the text with the known hash among all strings of a file, which is read and never run."""
    path = checkout / constant.file
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {reason_of(error)}",
            hint="give the folder of a checkout of the authors' repository",
        ) from error
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() == constant.sha256:
            return constant.form.replace("{text}", text.replace(_IMAGE, "<image>"))
    raise ConfigError(
        f"{path} holds no text with the SHA-256 {constant.sha256}",
        hint="check out the commit that docs/guides/baselines.md names",
    )
