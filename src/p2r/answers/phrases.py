"""The phrases in which an option's letter occurs: the patterns of `choice`. Each has a group `letter`.

Every run is bounded, so that a long reply is read in linear time.
"""

from __future__ import annotations

import re

# What may come between a phrase and its letter, or after a letter: quotes, brackets, emphasis, LaTeX.
OPENING = r"(?:[\s*_~\"'“”‘’«»「『【`$(\[{（\\#]|\\(?:text|textbf|mathbf|mathrm|boxed)\{){0,12}"
CLOSING = r"[\s*_~\"'“”’«»」』】`$)\]}）]{0,12}"
# A letter outside words, abbreviations (U.S.), compounds (A-frame), elisions (D'accord) and pairs (N/A).
LETTER = (
    r"(?<![A-Za-z0-9À-ɏ])(?<![A-Za-z]['’/])(?<![A-Z]\.)(?P<letter>[A-Za-z])"
    r"(?![A-Za-z0-9À-ɏ\u0300-\u036f]|['’\-/][A-Za-z]|\.[A-Za-z](?![A-Za-z]))"
)
_LINK = r"(?:\s*(?::|=|\bis\b|\bare\b|\bwas\b|\b(?:would|should|must|will|has to|ought to) be\b|\bbeing\b|\bto be\b))"
_FILLER = (
    r"(?:\s*(?::|\b(?:the|option|choice|letter|answer|clearly|definitely|likely|most likely|probably|therefore|thus|"
    r"indeed|simply|just|correct|best|right|one)\b))"
)
_ANSWER_WORD = r"(?:answer|ans|choice|option|letter|response|result|output|conclusion|selection|verdict|pick|one)"
_SENTENCE_END = r"(?=[\W_]*(?:\Z|\n|[.!;]\s))"


def _compile(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts), re.IGNORECASE)


STATED = (
    # "the answer should be B", "Best option: B"
    _compile(rf"\b{_ANSWER_WORD}\b\.?{CLOSING}{_LINK}{_LINK}?{_FILLER}{{0,4}}{OPENING}{LETTER}"),
    # "Answer B", "answer (b)"
    _compile(rf"\b(?:answer|ans)\b\.?{CLOSING}{_FILLER}{{0,4}}{OPENING}{LETTER}"),
    # "I choose option B", "which corresponds to option B", "I'd say B"
    _compile(
        r"\b(?:choos(?:e|ing)|chose|chosen|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)? with|opt(?:ing)? for|settle on",
        r"|i(?:['’]d| would)? (?:say|think|believe|guess)(?: (?:it is|it['’]s|that))?",
        rf"|correspond(?:s|ing)? to|match(?:es|ing)?)\b{_FILLER}{{0,4}}{OPENING}{LETTER}",
    ),
    # "..., so B.", "but more likely B", "It is B", "No, B."
    _compile(
        r"\b(?:so|thus|therefore|hence|but|actually|(?:more|most) likely|probably|must be|should be|no|wait",
        r"|make that|i mean|(?:it|this|that) is|it['’]s)\b,?",
        r"(?:\s+(?:it(?:['’]s| is| must be| should be)|this is|that is))?",
        rf"{_FILLER}{{0,3}}{OPENING}{LETTER}{_SENTENCE_END}",
    ),
    # "B is correct", "(B) seems the best"
    _compile(
        rf"{LETTER}{CLOSING}(?:is|would be|must be|should be|seems|looks|appears(?: to be)?)\s+",
        r"(?:(?:the|my|most likely|clearly|definitely|indeed)\s+){0,3}",
        r"(?:correct|right|true|accurate|answer|best|final)\b(?!\s+(?:of|side)\b)",
    ),
    # "答案是B", "正解はBです"
    _compile(
        rf"(?:答案|正解|选择|選擇|应选|應選|正确选项|回答)(?:应该是|应为|是|为|為|は|：|:|\s){{0,3}}{OPENING}{LETTER}"
    ),
)
# "the answer is blue": the words that may be an option.
STATED_TEXT = _compile(rf"\b(?:answer|choice|option|result|conclusion){CLOSING}{_LINK}+(?P<rest>[^\n]+)")
BOXED = re.compile(r"\\boxed\s{0,4}\{((?:[^{}]|\{[^{}]*\})*)\}")

BARE_LINE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
# "B. blue", "(B) blue", "B - blue"
HEADED_LINE = re.compile(rf"{OPENING}{LETTER}(?:{CLOSING}[).:：、,\]）】]+|\s+[-–—]\s|[*_]+(?=\s))(?P<rest>.*)")
# "B blue"
OPENED_LINE = re.compile(rf"{OPENING}{LETTER}\s+(?P<rest>.*)")
NAMED = _compile(rf"\b(?:option|choice|letter)\b\s*:?{OPENING}{LETTER}")
ALONE = re.compile(LETTER)

# "B" of "A or B", matched where A ends.
COMPANY = re.compile(rf"{CLOSING}(?:,\s*)?(?:\b(?i:or|and|nor)\b|/|&|\+|,)\s*(?:(?i:option)\s+)?{OPENING}{LETTER}")
# "not A", "neither A nor B", "I first thought A"
DENIED_BEFORE = _compile(
    r"(?:\bnot\b|n['’]t\b|\bneither\b|\bnor\b|\brather than\b|\binstead of\b|\bexcept\b|\beliminat\w+|\bexclud\w+",
    r"|\brul\w+ out|\b(?:first|initially) (?:i )?thought\b)",
    r"(?:\s+(?:be|it|it is|the|answer|option|options|choice|is|say|chosen?)){0,3}",
    rf"(?P<list>{OPENING}[A-Z]\b(?:(?:\s*,\s*{OPENING}[A-Z]\b)*\s*,?\s*(?:or|and|nor|/|&)\s*{OPENING}[A-Z]\b)?)",
)
# "A is wrong", "A isn't"
DENIED_AFTER = _compile(
    rf"{CLOSING}\s*(?:is|are|was|were|seems?|looks?|can|could|does|do)?\s*",
    r"(?:n['’]t|not\b|cannot\b|wrong\b|incorrect\b|false\b|impossible\b|ruled out\b|eliminated\b|excluded\b|out\b)",
)
# "A bicycle": the word after a letter that may be an article; in "A because" it is not.
ARTICLE_NOUN = re.compile(r"[ \t]+(?P<word>[^\W\d]{2,}|\d+)")
NO_NOUN = re.compile(
    r"(?:and|as|because|based|but|due|for|from|given|if|in|is|it|must|not|on|or|seems|since|so|that|the|there|this|to"
    r"|was|which|while|with|would)"
)
# "Plan B", "Vitamin C", "27 B"
THING_BEFORE = _compile(
    r"(?:\b(?:plan|vitamin|type|class|grade|group|section|terminal|gate|platform|exhibit|team|row|block|zone|size)\s\W?",
    r"|\d\s)$",
)
# What follows a small letter that stands for an option: "b.", "b)", "b, ..."
CLOSED_AFTER = re.compile(rf"{CLOSING}(?:\Z|\n|[,;!?.。、，](?:\s|\Z))|[)\]）:]")
