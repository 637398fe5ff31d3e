"""Prompt sets: every prompt is a text file, filled here and fingerprinted.

The shipped sets `release` (the default: the wording behind the published checkpoints) and `paper` (appendix B.1) are in
prompt_sets/, where a README names the source of each file. Your own folder works like a shipped set; a file base.txt in
it may name a shipped set that supplies the files it lacks.

Every character of a file counts, a newline at its end included. `{question}` and the other placeholders are filled in
one pass, so braces in a question stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2r.errors import ConfigError, DataError, count_nouns, reason_of
from p2r.types import LETTERS, Sample

SHIPPED_SETS = Path(__file__).parent / "prompt_sets"
DEFAULT_SET = "release"
BASE_FILE = "base.txt"

# Every file of a set, and the placeholders that it must hold.
PLACEHOLDERS: Mapping[str, frozenset[str]] = {
    "system": frozenset(),
    "perceiver": frozenset({"question"}),
    "reasoner": frozenset({"question", "answer_form"}),
    "reasoner_without_evidence": frozenset({"question", "answer_form"}),
    "thinking": frozenset({"question", "answer_form"}),
    "direct": frozenset({"question", "direct_form"}),
    "judge": frozenset({"question", "target", "answer"}),
    "tools": frozenset(),
    "zoom_cues": frozenset({"question"}),
    "zoom_view": frozenset(),
    "zoom_answerable": frozenset({"question"}),
    "zoom_clear": frozenset({"cue"}),
    "zoom_exists": frozenset({"cue"}),
    "zoom_likely": frozenset({"cue"}),
    "answer_choice": frozenset(),
    "answer_number": frozenset(),
    "answer_free_form": frozenset(),
    "direct_choice": frozenset(),
    "direct_number": frozenset(),
    "direct_free_form": frozenset(),
}
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The prompts of one set. Each method returns the whole text of a user's turn.

    name: the name or the folder that the set was loaded by.
    texts: file stem -> text, one for each key of PLACEHOLDERS.
    fingerprint: short hash of all texts.
    """

    name: str
    texts: Mapping[str, str]
    fingerprint: str

    @property
    def system(self) -> str:
        """The system's words."""
        return self.texts["system"]

    def perceiver(self, sample: Sample) -> str:
        """Ask where to look."""
        return self._fill("perceiver", {"question": question_text(sample)})

    def reasoner(self, sample: Sample) -> str:
        """Ask for an answer from the annotated image and the crops."""
        return self._ask("reasoner", sample)

    def reasoner_without_evidence(self, sample: Sample) -> str:
        """Ask for an answer from the image alone, because the perceiver found nothing to show."""
        return self._ask("reasoner_without_evidence", sample)

    def direct(self, sample: Sample) -> str:
        """Ask for an answer at once, without a perceiver and without reasoning."""
        return self._ask("direct", sample)

    def thinking(self, sample: Sample) -> str:
        """Ask for an answer step by step, without a perceiver."""
        return self._ask("thinking", sample)

    def judge(self, sample: Sample, answer: str) -> str:
        """Ask a judging model whether `answer` is right, where no rule can tell.

        Raises:
            DataError: the sample has no target.
        """
        if sample.target is None:
            raise DataError(f"sample {sample.id!r} has no target to judge an answer by")
        return self._fill("judge", {"question": question_text(sample), "target": sample.target, "answer": answer})

    @property
    def tools(self) -> str:
        """The description of the zoom-in tool, which follows the system's words."""
        return self.texts["tools"]

    @property
    def zoom_view(self) -> str:
        """The explanation of the two images of a searched part, which precedes the question about it."""
        return self.texts["zoom_view"]

    def zoom_cues(self, sample: Sample) -> str:
        """Ask, without the image, what has to be seen."""
        return self._fill("zoom_cues", {"question": question_text(sample)})

    def zoom_answerable(self, sample: Sample) -> str:
        """Ask whether enough is seen to answer."""
        return self._fill("zoom_answerable", {"question": question_text(sample)})

    def zoom_clear(self, cue: str) -> str:
        """Ask whether `cue` is seen well enough."""
        return self._fill("zoom_clear", {"cue": cue})

    def zoom_exists(self, cue: str) -> str:
        """Ask whether `cue` is seen."""
        return self._fill("zoom_exists", {"cue": cue})

    def zoom_likely(self, cue: str) -> str:
        """Ask whether `cue` may be seen on a closer look."""
        return self._fill("zoom_likely", {"cue": cue})

    def _ask(self, key: str, sample: Sample) -> str:
        return self._fill(
            key,
            {
                "question": question_text(sample),
                "answer_form": self.texts[f"answer_{sample.answer_form}"],
                "direct_form": self.texts[f"direct_{sample.answer_form}"],
            },
        )

    def _fill(self, key: str, values: Mapping[str, str]) -> str:
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.texts[key])


def load_prompt_set(name_or_path: str | Path = DEFAULT_SET) -> PromptSet:
    """Read a shipped set by name, or your own set from a folder.

    Raises:
        ConfigError: there is no such set, a file is missing or unreadable, or a placeholder is missing or unknown.
    """
    folders = [_find_folder(name_or_path)]
    while (base_file := folders[-1] / BASE_FILE).is_file():
        folders.append(_find_base(base_file))
    texts = {key: _read_first(key, folders) for key in PLACEHOLDERS}
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
    return PromptSet(name=str(name_or_path), texts=texts, fingerprint=digest[:12])


def question_text(sample: Sample) -> str:
    """Return the question, with the options appended in HR-Bench's layout (`A. ...`) unless it already states them.

    Raises:
        DataError: as `check_question`.
    """
    check_question(sample)
    if not sample.options or sample.options_in_question:
        return sample.question
    lines = (f"{letter}. {option}" for letter, option in zip(LETTERS, sample.options, strict=False))
    return "\n".join((sample.question, "Options:", *lines))


_SPECIAL_TOKEN = re.compile(
    r"<\|(?:endoftext|im_start|im_end|(?:vision|object_ref|box|quad)_(?:start|end)|(?:vision|image|video)_pad)\|>"
)
"""The tokens that structure a chat of Qwen's families; in a question they would end it or stand for an image."""


def find_special_token(text: str) -> str:
    """Return the first special token of a chat that a text holds; "" for none."""
    match = _SPECIAL_TOKEN.search(text)
    return match[0] if match else ""


def check_question(sample: Sample) -> None:
    """Make sure that a question can be asked.

    Raises:
        DataError: an empty question, a special token of a chat, or options that letters cannot name (one, more than
            26, empty).
    """
    if not sample.question.strip():
        raise DataError(f"the question of sample {sample.id!r} is empty", hint="write what you want to know")
    if token := find_special_token("\n".join((sample.question, *sample.options))):
        raise DataError(
            f"the question of sample {sample.id!r} holds {token}, a special token of the model",
            hint="remove it from the text",
        )
    check_encoding((sample.question, *sample.options, sample.target or ""))
    options, count = sample.options, len(sample.options)
    if count == 1:
        raise DataError(
            f"sample {sample.id!r} has a single option, {options[0]!r}", hint="give two or more options, or none"
        )
    if count > len(LETTERS):
        raise DataError(
            f"sample {sample.id!r} has {count_nouns(count, 'option')}, more than there are letters",
            hint=f"give at most {len(LETTERS)}",
        )
    stripped = [option.strip() for option in options]
    if "" in stripped:
        letter = LETTERS[stripped.index("")]
        raise DataError(f"option {letter} of sample {sample.id!r} is empty", hint="write the option, or leave it out")


def check_encoding(texts: Sequence[str]) -> None:
    """Refuse what a terminal of another encoding makes of letters: it can be neither asked nor stored."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            shown = text.encode("utf-8", "backslashreplace").decode()
            raise DataError(
                f"'{shown}' is not text in UTF-8",
                hint="set the terminal to UTF-8, or write the question into a file",
            ) from error


def _find_folder(name_or_path: str | Path) -> Path:
    """Return the folder of a set. The name of a shipped set wins over a folder; write ./release for the folder."""
    if isinstance(name_or_path, str) and name_or_path in _shipped_names():
        return SHIPPED_SETS / name_or_path
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    raise ConfigError(
        f"the prompt set {str(name_or_path)!r} is neither a shipped set nor a folder",
        hint=f"shipped sets: {', '.join(_shipped_names())}",
    )


def _find_base(base_file: Path) -> Path:
    name = _read(base_file).strip()
    if name not in _shipped_names():
        raise ConfigError(
            f"{base_file} names {name!r}, which is not a shipped prompt set",
            hint=f"shipped sets: {', '.join(_shipped_names())}",
        )
    return SHIPPED_SETS / name


def _shipped_names() -> list[str]:
    return sorted(folder.name for folder in SHIPPED_SETS.iterdir() if folder.is_dir())


def _read_first(key: str, folders: list[Path]) -> str:
    """Return the text of `key` from the first folder that has it, with its placeholders checked."""
    path = next((path for folder in folders if (path := folder / f"{key}.txt").is_file()), None)
    if path is None:
        raise ConfigError(
            f"the prompt set in {folders[0]} lacks the file {key}.txt",
            hint=f"write it, or name a shipped set in {folders[0] / BASE_FILE} that supplies the missing files",
        )
    text = _read(path)
    found = frozenset(_PLACEHOLDER.findall(text))
    if unknown := sorted(found - PLACEHOLDERS[key]):
        known = ", ".join(f"{{{name}}}" for name in sorted(PLACEHOLDERS[key])) or "none"
        raise ConfigError(f"{path} holds the unknown placeholder {{{unknown[0]}}}", hint=f"it knows: {known}")
    if missing := sorted(PLACEHOLDERS[key] - found):
        raise ConfigError(
            f"{path} lacks the placeholder {{{missing[0]}}}", hint="write the placeholder where its text belongs"
        )
    return text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {reason_of(error)}", hint="a prompt is a text file in UTF-8"
        ) from error
