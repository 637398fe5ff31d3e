"""What is said of each option in turn: a verdict, a rating, a tick; and how a text ends that was cut off."""

from __future__ import annotations

import re
from typing import Final

from p2r.answers.phrases.pattern import any_of

_NO = r"""no, not, incorrect\w*, wrong, false, \w+n['’]t, mismatch, absent, cannot, ruled out, eliminated, excluded,
    unlikely, neither, never, does not"""
# "A: no match"
VERDICT_NO: Final = re.compile(rf"\b{any_of(_NO)}\b|[❌✗✘✖×☒]|不|错|否|没", re.IGNORECASE)
# "B: yes"
VERDICT_YES: Final = re.compile(
    r"\b(?:yes|correct|right|true|match(?:es)?|fits|visible|present)\b|[✅✓✔☑√]|是|对|正确|符合", re.IGNORECASE
)
_SURE = any_of(
    "sure, certain, confident, chance, likely, probability, for, of, on, that, it, is, it's, the, answer, option"
)
# The rating before an option: "80% sure that it is B", "60% for B".
RATING_BEFORE: Final = re.compile(rf"(?P<value>\d{{1,3}}(?:\.\d{{1,3}})?)\s?%(?: {_SURE}){{0,7}} [\W_]{{0,4}}$")
# A rating as one word: "90%", ".9", "9/10".
SHARE: Final = re.compile(r"\b\d{1,3}(?:\.\d{1,3})?\s?%|(?<![\d.])[01]?\.\d{1,4}\b|\b\d{1,3}/100?\b")
_ABOUT = any_of(
    "about, around, approximately, roughly, at, is, has, with, an?, likelihood, probability, confidence, chance, of"
)
# The rating behind an option: "(90%)", ": about 0.9", "- 9/10", ": very high".
RATING: Final = re.compile(
    rf"(?:[^\w\n.,;]|\b{_ABOUT}\b){{1,12}}"
    r"(?:(?P<value>\d{1,3}(?:\.\d{1,3})?)\s?(?P<of>%|/100?\b)|(?P<fraction>[01]?\.\d{1,4})\b"
    r"|(?P<level>(?:very )?(?:low|high)|medium|moderate)\b)",
    re.IGNORECASE,
)
# A box before an option that is ticked: "- [x] B. blue".
TICKED: Final = re.compile(r"\[[xX✓✔]\][ *_(]*(?:[Oo]ption )?$")
TICK_BOX: Final = re.compile(r"\[[ xX✓✔]\](?=[ *_(]{0,4}(?:[Oo]ption )?[A-Z])")
_OPTIONS = r"options?, choices?, candidates?, possibilities, each, one by one, alternatives, analyz\w+, compar\w+"
# What announces that options are gone through: "Let's check each option:".
ANNOUNCEMENT: Final = re.compile(rf"(?:\b{any_of(_OPTIONS)}\b|选项|逐一|分析)[^\n]{{0,80}}$", re.IGNORECASE)
_GOES_ON = any_of(
    """is, are, was, the, an, of, and, or, so, since, because, to, in, on, with, this, that, but, if, as, at, by, for,
    from, which, it, its, there, than, these, while, i, we, seems, appears, looks, has, have, can, were, does"""
)
# A text that ends so was cut off: "The flag is the".
UNFINISHED: Final = re.compile(rf"\b{_GOES_ON}$|[.!?:\n]\s+(?:[Tt]he|[Tt]his|[Ii]ts) [^\W\d]+$|\w+ \w+ \w+,$|\($")
