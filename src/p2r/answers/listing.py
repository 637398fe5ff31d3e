"""Read a reply that goes through the options with a verdict on each: "A: no, B: yes", a table, percentages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from p2r.answers.phrases import verdicts
from p2r.answers.tokens import Mention, Token

_MARKS = frozenset("):：]）】*_-–—|✅❌✓✗✔✘=")
_LEAST_ITEMS = 2
# An option with this share is chosen even where the shares of others are not given.
_MAJORITY = 0.5
# How far before an option its rating may begin.
_RATING_CHARS = 60
# By how much shares may miss their sum, 1.
_ROUNDING = 0.05
_LEVELS = ("very low", "low", "medium", "high", "very high")
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
                mention for mention in run if verdicts.TICKED.search(text[max(0, mention.start - 20) : mention.start])
            ]
            chosen = (ticked[0] if len(ticked) == 1 else _choose(run, segments, num_options)) or chosen
        elif _is_listing_of_one(text, run[0], segments[0]):
            listed.add(run[0].start)
    chosen = _find_highest_rated(text, mentions.values(), num_options) or chosen
    line_end = text.find("\n", max(listed, default=0)) if listed else 0
    return Listing(frozenset(listed), chosen, len(text) if line_end < 0 else line_end)


def _is_item(tokens: Sequence[Token], index: int, mention: Mention) -> bool:
    if len(mention.letters) != 1:
        return False
    after = tokens[index + 1].text if index + 1 < len(tokens) else ""
    return mention.has_words or mention.is_heading or after in _MARKS or verdicts.SHARE.fullmatch(after) is not None


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
    no = [bool(verdicts.VERDICT_NO.search(segment)) for segment in segments]
    yes = [
        not denied and bool(verdicts.VERDICT_YES.search(segment)) for denied, segment in zip(no, segments, strict=True)
    ]
    if sum(yes) == 1 and (sum(no) or len(run) == num_options):
        return run[yes.index(True)]
    if not any(yes) and len(run) == num_options and no.count(False) == 1:
        return run[no.index(False)]
    return None


def _find_highest_rated(text: str, mentions: Iterable[Mention], num_options: int) -> Mention | None:
    """Find the option that is rated highest: "A (90%), B (10%)", "A: low, B: high".

    Not all options need a rating, where one has most of what there is to share.
    """
    single = [mention for mention in mentions if len(mention.letters) == 1]
    rated = [
        (mention, float(match["value"]) / 100)
        for mention in single
        if (match := verdicts.RATING_BEFORE.search(text, max(0, mention.start - _RATING_CHARS), mention.start))
    ]
    are_levels = False
    if len(rated) < len(single):
        matches = [(mention, verdicts.RATING.match(text, mention.words_end or mention.end)) for mention in single]
        rated = [(mention, _read_rating(match)) for mention, match in matches if match]
        are_levels = any(match["level"] for _, match in matches if match)
        if are_levels and not all(match["level"] for _, match in matches if match):
            return None
    if len(rated) < _LEAST_ITEMS or len({mention.letters for mention, _ in rated}) != len(rated):
        return None
    values = [value for _, value in rated]
    highest = max(values)
    are_shares = not are_levels and (highest >= _MAJORITY or abs(sum(values) - 1) <= _ROUNDING)
    if values.count(highest) > 1 or not (are_shares or len(rated) == num_options):
        return None
    return rated[values.index(highest)][0]


def _read_rating(match: re.Match[str]) -> float:
    if match["level"]:
        return _LEVELS.index(match["level"].lower().replace("moderate", "medium"))
    if match["fraction"]:
        return float(match["fraction"])
    return float(match["value"]) / (10 if match["of"] == "/10" else 100)


def _is_listing_of_one(text: str, mention: Mention, segment: str) -> bool:
    """Tell whether a listing was broken off after its first option."""
    before = _LINE_OPENING.sub("", text[max(0, mention.start - 120) : mention.start])
    is_announced = before.endswith((":", "：", ".")) and verdicts.ANNOUNCEMENT.search(before)
    is_unfinished = segment.rstrip(" *_").endswith(("-", "–", ":", ","))
    return bool(is_announced) or is_unfinished or (mention.has_words and bool(verdicts.VERDICT_NO.search(segment)))
