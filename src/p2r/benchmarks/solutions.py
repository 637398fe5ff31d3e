"""The answer in a solution: data sets wrap it in thinking, tags, sections, a LaTeX box or a dialect's own box."""

from __future__ import annotations

import re

from p2r.answers.region import find_region
from p2r.answers.sections import find_final_answer

_WRAPPED = re.compile(r"</?think(?:ing)?>|</?\s*answer\s*>|\\f?box(?:ed)?\s*\{|<\|begin_of_box\|>", re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{", re.IGNORECASE)
_OWN_BOX = re.compile(r"<\|begin_of_box\|>(.*?)<\|end_of_box\|>", re.DOTALL)
_THINKING = re.compile(r"<(/?)thinking>", re.IGNORECASE)
_PLAIN_TEXT = re.compile(r"\\(?:text|textbf|mathbf|mathrm|textrm)\s*\{([^{}]*)\}")


def unwrap_solution(solution: str) -> str:
    """Return the answer that a solution states, "" where it states none; a solution without wrapping is the answer.

    Of several boxes or answer tags the last one counts, as in a reply.
    """
    text = solution.strip()
    if not _WRAPPED.search(text) and find_final_answer(text) is None:
        return text
    text = _THINKING.sub(r"<\1think>", text)
    region = find_region(text)
    if region.where != "thought":
        text = text[region.start : region.start + len(region.text)].strip() if region.text.strip() else ""
    elif not _BOX.search(text):
        return ""
    if boxes := _OWN_BOX.findall(text):
        text = boxes[-1].strip()
    return _open_box(text) or text


def _open_box(text: str) -> str:
    """Return what is in the last box, or ""."""
    for match in reversed(list(_BOX.finditer(text))):
        depth = 1
        for end in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                content = text[match.end() : end].strip()
                whole = _PLAIN_TEXT.fullmatch(content)
                return whole[1].strip() if whole else content
    return ""
