"""Which of two answers counts: words of correction and conclusion, of what is so now, and of sums."""

from __future__ import annotations

import re
from typing import Final

from p2r.answers.phrases.pattern import OPTION, any_of

_AGAIN = r"""let me (?:re\w*|look again|check again|correct|revise|double),
    on (?:second thought|closer|reflection|a closer|re\w+|further),
    (?:looking|look|checking|check|zooming|thinking) (?:again|closer|more), upon,
    after (?:re\w+|a closer|another|closer|looking again|zooming)"""
_TAKE_BACK = r"""wait, actually, sorry, oops, correction, corrected, scratch that, i mean, i meant, make that,
    rather(?! than), hmm, apologies, i apologi[sz]e, my mistake, my bad, strike that, hold on, revised, revision, edit,
    update, just kidding, no(?: no| wait)?$, nope, i was wrong, that is wrong, that's wrong, not quite"""
_CHANGE = """but now, correction, corrected, i correct, i change, chang(?:e|ed|ing) (?:it|my), i stand corrected,
    actually, wait no, no wait"""
# Words of correction, which count anywhere since the earlier answer: "A. Wait, B".
CORRECTION: Final = re.compile(
    rf"^(?:(?:oh|and|but|hmm|well|ah|so|or) )*(?:{any_of(_TAKE_BACK)}|{any_of(_AGAIN)})|\b{any_of(_CHANGE)}\b"
    r"|不对|等等|更正|改为|纠正|修正|再看|仔细看|^不是?$|訂正|아니"
)
_SO = r"""so, therefore, thus, hence, finally, overall, ultimately, conclusion, in (?:conclusion|the end|short|sum\w*),
    to (?:conclude|sum\w*), =, that (?:leaves|means), ergo"""
_SO_ANYWHERE = "final, finally, therefore, donc, por tanto, por lo tanto, daher, also ist, quindi, portanto"
# Words of conclusion, which count in their sentence: "so it is B".
CONCLUSION: Final = re.compile(
    rf"^(?:(?:and|but) )?{any_of(_SO)}\b|^=|\b{any_of(_SO_ANYWHERE)}\b"
    r"|所以|因此|综上|最终|总之|故|最后|よって|したがって|따라서"
)
_SAYS = any_of("is, are, says?, reads?, shows?")
# What is so now, after what was: "it was red and is now blue".
NOW: Final = re.compile(
    rf"\b{_SAYS} (?:now|today|currently)\b|\bnow (?:{_SAYS}|it's)\b"
    r"|\b(?:current|present|new) (?:\w+ )?(?:is|says|reads|shows)\b"
)
# A sum after its parts: "two here and one there, three in total".
IN_TOTAL: Final = re.compile(r"(?: \w+)? (?:in total|in all|altogether|all together)\b")
# A second answer behind the first, which takes it back: "The answer is A, and also B".
SECOND: Final = re.compile(rf"^(?:and|or|also)(?: also| maybe| perhaps)? {OPTION}$")
# "I cannot tell"
REFUSAL: Final = re.compile(
    r"\b(?:cannot|can't|could not|couldn't|unable to|impossible to|hard to|difficult to) (?:\w+ )?"
    + any_of("tell, say, determined?, see, identify, decide, answer, be determined, read, know, make out, confirm")
    + r"\b|\b(?:don't|do not) know\b|\bnot (?:sure|certain|clear|visible|possible|enough)\b|\bunclear\b|\bunknown\b"
    r"|无法|不清楚|不知道|看不清"
)
