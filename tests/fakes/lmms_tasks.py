"""How tasks of lmms-eval 0.7 write a question, copied from their `doc_to_text`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

CLOSING = "\nAnswer with the option's letter from the given choices directly."


def write_vstar(row: Mapping[str, object]) -> str:
    """As `vstar_doc_to_text` does, with the task's `post_prompt`."""
    question = str(row["text"])
    found: list[str] = re.findall(r"\([A-D]\)\s*([^()]+?)(?=\s*\([A-D]\)|$)", question)
    if found:
        lines = [f"{letter}. {option.strip()}" for letter, option in zip("ABCD", found, strict=False)]
        question = "\n".join([question.split("(A)")[0].strip(), *lines])
    return question + CLOSING


def write_hrbench(row: Mapping[str, object]) -> str:
    """As `hrbench_doc_to_text` does."""
    options = "".join(f"{letter}. {row[letter]}\n" for letter in "ABCDEF" if letter in row)
    return f"{str(row['question']).strip()}\n{options}Answer the option letter directly."


def write_mme(row: Mapping[str, object]) -> str:
    """As `mme_realworld_doc_to_text` does."""
    options = row["multi-choice options"]
    assert isinstance(options, list)
    return (
        f"{row['question']} The choices are listed below:\n"
        + "\n".join(map(str, options))
        + "\nSelect the best answer "
        "to the above multiple-choice question based on the image. Respond with only the letter (A, B, C, D, or E) of "
        "the correct option.\nThe best answer is: "
    )


WRITERS: Mapping[str, Callable[[Mapping[str, object]], str]] = {
    "vstar_bench": write_vstar,
    "hrbench4k": write_hrbench,
    "mmerealworld_lite": write_mme,
}
"""By the name of a task."""
