"""Read a reply that goes through the options with a verdict on each: "A: no, B: yes", a table, percentages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from p2r.answers import phrases
from p2r.answers.tokens import Mention, Token

_MARKS = frozenset("):：]）】*_-–—|✅❌✓✗✔✘=")
_LEAST_ITEMS = 2
_LINE_OPENING = re.compile(r"\s*(?:\d+[.)]\s*)?[\s*_(\-#]*(?:[Oo]ption\s*)?[\s*_(]*$")


class Listing(NamedTuple):
    """The options that are gone through.

    listed: where the letters of these options stand.
    chosen: the option that the verdicts choose.
    end: where the last line of the listing ends; 0 without one.
    """

    listed: frozenset[int]
    chosen: Mention | None = None
    end: int = 0


def read_listing(text: str, tokens: Sequence[Token], mentions: Mapping[int, Mention], num_options: int) -> Listing:
    """Find the options in `text` that are only gone through: a heading is then no answer."""
    items = [(index, mention) for index, mention in mentions.items() if _is_item(tokens, index, mention)]
    runs = _find_runs(items)
    listed = {mention.start for run in runs if len(run) >= _LEAST_ITEMS for mention in run}
    chosen: Mention | None = None
    following = [*(run[0].start for run in runs[1:]), len(text)]
    for run, run_end in zip(runs, following, strict=False):
        segments = _cut_segments(text, run, run_end)
        if len(run) >= _LEAST_ITEMS:
            ticked = [
                mention for mention in run if phrases.TICKED.search(text[max(0, mention.start - 20) : mention.start])
            ]
            chosen = (ticked[0] if len(ticked) == 1 else _choose(run, segments, num_options)) or chosen
        elif _is_listing_of_one(text, run[0], segments[0]):
            listed.add(run[0].start)
    line_end = text.find("\n", max(listed, default=0)) if listed else 0
    return Listing(frozenset(listed), chosen, len(text) if line_end < 0 else line_end)


def _is_item(tokens: Sequence[Token], index: int, mention: Mention) -> bool:
    if len(mention.letters) != 1:
        return False
    after = tokens[index + 1].text if index + 1 < len(tokens) else ""
    return mention.has_words or mention.is_heading or after in _MARKS or phrases.SHARE.fullmatch(after) is not None


def _find_runs(items: Sequence[tuple[int, Mention]]) -> list[list[Mention]]:
    """Group items whose letters follow each other."""
    runs: list[list[Mention]] = []
    for _, mention in items:
        if runs and ord(mention.letters) == ord(runs[-1][-1].letters) + 1:
            runs[-1].append(mention)
        elif mention.is_heading or mention.letters == "A" or mention.has_words:
            runs.append([mention])
    return runs


def _cut_segments(text: str, run: Sequence[Mention], run_end: int) -> list[str]:
    """Cut out what is said of each option, of the last one up to an empty line or `run_end`."""
    ends = [mention.start for mention in run[1:]]
    last_end = text.find("\n\n", run[-1].end, run_end)
    ends.append(run_end if last_end < 0 else last_end)
    return [text[mention.words_end or mention.end : end] for mention, end in zip(run, ends, strict=True)]


def _choose(run: Sequence[Mention], segments: Sequence[str], num_options: int) -> Mention | None:
    shares = [phrases.SHARE.search(segment) for segment in segments]
    values = [float(share[1] or share[2]) for share in shares if share]
    if len(values) == len(run) == num_options and values.count(max(values)) == 1:
        return run[values.index(max(values))]
    no = [bool(phrases.VERDICT_NO.search(segment)) for segment in segments]
    yes = [
        not denied and bool(phrases.VERDICT_YES.search(segment)) for denied, segment in zip(no, segments, strict=True)
    ]
    if sum(yes) == 1 and (sum(no) or len(run) == num_options):
        return run[yes.index(True)]
    if not any(yes) and len(run) == num_options and no.count(False) == 1:
        return run[no.index(False)]
    return None


def _is_listing_of_one(text: str, mention: Mention, segment: str) -> bool:
    """Tell whether a listing was broken off after its first option."""
    before = _LINE_OPENING.sub("", text[max(0, mention.start - 120) : mention.start])
    is_announced = before.endswith((":", "：", ".")) and phrases.ANNOUNCEMENT.search(before)
    is_unfinished = segment.rstrip(" *_").endswith(("-", "–", ":", ","))
    return bool(is_announced) or is_unfinished or (mention.has_words and bool(phrases.VERDICT_NO.search(segment)))
