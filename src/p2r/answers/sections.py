"""The sections of a reply to the prompt set `pebr_r1`, each under a heading that begins with `###`.

The headings are PeBR-R1's (arXiv 2509.13031). As in its release, capitals and blanks in a heading do not count, nor
whether it begins a line.
"""

from __future__ import annotations

import re

DESCRIPTION = "### Image Description:"
RATIONALES = "### Rationales:"
FIRST_STEP = "### Step 1:"
FINAL_ANSWER = "### The final answer is:"
HEADINGS = (DESCRIPTION, RATIONALES, FIRST_STEP, FINAL_ANSWER)
"""The headings that a whole reply has, in their order."""

_MARK = "###"


def find_section(reply: str, heading: str) -> str | None:
    """Return the text under the first such heading, up to the next heading of any kind; None without the heading."""
    match = _PATTERNS[heading].search(reply)
    return None if match is None else reply[match.end() :].partition(_MARK)[0].strip()


def find_final_answer(reply: str, start: int = 0) -> tuple[int, int] | None:
    """Return start and end of the text under the last heading of the final answer, from `start` on; None without it."""
    found = list(_PATTERNS[FINAL_ANSWER].finditer(reply, start))
    if not found:
        return None
    begin = found[-1].end()
    end = reply.find(_MARK, begin)
    return begin, end if end >= 0 else len(reply)


def has_all_sections(reply: str) -> bool:
    """Tell whether all of `HEADINGS` are in a reply, in whatever order."""
    return all(pattern.search(reply) for pattern in _PATTERNS.values())


def _compile(heading: str) -> re.Pattern[str]:
    return re.compile(r"\s*".join(map(re.escape, heading.split())), re.IGNORECASE)


_PATTERNS = {heading: _compile(heading) for heading in HEADINGS}
