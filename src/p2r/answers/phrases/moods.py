"""Where a clause ends, and what kind of clause it is: a denial, a condition, a comparison, a question."""

from __future__ import annotations

import re
from typing import Final

from p2r.answers.phrases.pattern import any_of, word_set

# --- Where a clause ends ------------------------------------------------------------------------------------------

OPENERS: Final = word_set(
    """because since as so but although though while whereas if unless when whether therefore thus hence which who and
    or leaving leaves given considering however yet then until otherwise mais sino sondern pero parce porque weil aber
    denn donc então quindi perché"""
)
OPENERS_EAST: Final = re.compile(
    any_of(
        "因为, 因為, 由于, 所以, 因此, 但是, 但, 而不是, 而非, 如果, 若是, 假如, 剩下, 只剩, そのため, なぜなら,"
        "따라서, 왜냐하면"
    )
)
# Words that open a clause with the next ones, "only if", or behind an option, "B assuming".
LONG_OPENERS: Final = word_set("only on provided providing in and assuming supposing depending")
OPENS_AT_LENGTH: Final = re.compile(
    rf"(?:only {any_of('if, when, while, after')}|on (?:the )?condition|provid(?:ed|ing) that|in (?:which )?case"
    r"|and (?:is )?(?:now|today))\b"
)
OPENERS_AFTER_OPTION: Final = word_set("provided providing assuming supposing depending")
# Before "but B" these leave out an option: "everything but B", "any option but B".
_COUNTED = any_of("options?, choices?, answers?, ones?, letters?")
ALL_OR_NONE: Final = re.compile(
    rf"\b(?:{any_of('everything, anything, nothing')}(?: else)?|all|none|any|options|choices|answers"
    rf"|{any_of('all, any, every, each, none, no')}(?: {any_of('of, the, other, four, five')})* {_COUNTED})$"
)
# A contrast begins a clause after an option: "B, not A", "C rather than B". But "B is not" is one clause.
CONTRASTS: Final = word_set("not rather instead over nor unlike nicht não non pas ne")
BEFORE_OWN_NOT: Final = word_set("is are was were does do did has can could would should may might must")
# A line or a clause that ends so goes on in the next one: "The answer is:".
GOES_ON: Final = re.compile(
    r"(?:^|^(?:\S+ ){0,6})"
    + any_of("answer, ans, choice, conclusion, verdict, selection, response, answer is, option is, 答案, 正解, 정답")
    + r"(?: is)?(?: :)?$"
)

# --- Denials ------------------------------------------------------------------------------------------------------

# Negations that say yes: "there is no doubt".
NO_NEGATION: Final = re.compile(
    r"\b(?:no|without(?: a)?|beyond(?: a| any)?|not a) (?:doubt|question)\b|\bnot (?:only|just|hard to see)\b"
    r"|\bno other (?:than|option than)\b|\bnone other than\b|\bnothing but\b"
    r"|\b(?:i'm|i am|am|is) not (?:\w+ly |100% )?(?:sure|certain|mistaken)\b|不难看出|毫无疑问|无疑|不过|不仅"
)
_NO = """not, never, neither, nor, no, none, nobody, nothing, cannot, hardly, barely, scarcely, unlikely, implausible,
    far from, unlike, rather than, instead of, over, against, except, no longer, strike out,
    (?:small|slight|slim|little|low) chance, nicht, não, pas, non, ne, нет, не, ليس, nein, falsch, faux, falso"""
_LEAVE_OUT = r"""doubt\w*, rul\w+ out, eliminat\w+, exclud\w+, reject\w*, dismiss\w*, discard\w*, refus\w+, declin\w+,
    avoid\w*, wrong\w*, incorrect\w*, false\w*, cross\w* out, kein\w*"""
_NO_EAST = "不|没|没有|非|别|排除|错|誤|ない|아니"
# Before an option: "not B", "we can exclude B".
NEGATION: Final = re.compile(rf"\b(?:{any_of(_NO)}|{any_of(_LEAVE_OUT)})\b|\w+n't\b|{_NO_EAST}")
_BETWEEN = r"""is, are, was, were, would, must, may, might, could, can, be, seems?, looks?, appears?, does, do, did,
    has, have, to, the, an?, also, just, far, too, quite, clearly, \w+ly, then, both, all, therefore, so, :"""
_WRONG = r"""not, \w+n't, cannot, wrong, incorrect, false, inaccurate, impossible, implausible, improbable, unlikely,
    hardly, barely, out, ruled, eliminated, excluded, rejected, invalid, dismissed, no, never, far from, fails?, lacks?,
    contradicts?, tempting, worse, unsuitable, (?:less|least) \w+, mismatch, nicht, no es, n'est, ist nicht, não, non,
    falsch, неверно"""
_BAD = any_of("poor, bad, weak, terrible, odd, strange, unlikely, worse, worst")
_CHOICE = any_of("choice, option, answer, fit, match, guess, pick, one")
# Behind an option: "B is wrong", "B would be a poor choice".
DENIED_AFTER: Final = re.compile(
    rf"(?: (?:option|choice|answer|one))?(?: {any_of(_BETWEEN)}){{0,4}} (?:{_BAD} {_CHOICE}|{any_of(_WRONG)})\b"
    r"| ?(?:选项|项)?(?:也|并|是|都|则|就|显然)?(?:不|错|有误|没|排除|可以排除)|(?: ?ではな| ?가 아니| ?이 아니)"
)

# --- Conditions, reasons and questions ----------------------------------------------------------------------------

_IF = """if, unless, suppose, supposing, assuming, provided, providing, were, had, should the, on condition,
    on the condition, in case, in which case, depending, imagine, wenn, si, se, если"""
_LOOKS = any_of("zoom, look, inspect, compar, check")
# "if the flag were red", "only when the light is on"; but "only when zooming in".
CONDITION: Final = re.compile(
    rf"^(?:(?:and|but|so|or|then|that|only) ){{0,2}}{any_of(_IF)}\b|\bif\b|^(?:as|so) long$"
    rf"|^only (?:when|while|after)\b(?! (?:\w+ )?{_LOOKS})|^(?:如果|若|假如|要是|倘若|除非|假设)|もし|만약"
)
_LOOK = """look, looks, zoom, see, inspect, examine, compare, count, check, read, not, recall, remember, had to,
    have to, must, forced, understand, consider, go by, judge, mistaken, wrong, trust, pay, focus, miss, missed"""
_FOOLS = any_of("deceiv, fool, trick, mislead, lie, wrong, mistaken, miss")
# Conditions that only say how the speaker looks, and bind nothing: "if I look closely", "had I to guess".
RHETORICAL: Final = re.compile(
    r"\b(?:if|unless|assuming|provided)(?: that)? (?:i|we|you|one)"
    rf" (?:(?:\w+ly|really|just|'m|am|are|were|do|can) ){{0,2}}{any_of(_LOOK)}\b"
    r"|^(?:had|were|should) (?:i|we) (?:to|have to|need to|be)\b|\bif (?:pressed|pushed|forced|asked|in doubt)\b"
    r"|\b(?:if|unless) (?:i'm|i am|you're|we're) (?:\w+ )?(?:mistaken|wrong|correct|right|reading|seeing|forced)\b"
    rf"|\b(?:unless|if) (?:the light|my eyes|the image|something)(?: \w+){{0,2}}? {_FOOLS}"
    r"|\b(?:even|as|see|check|know|sure|tell|determine|out) if\b|\bif (?:any|possible|so|needed|necessary)\b"
)
# Where what follows is bound by a condition no more: "if it were red, but it is blue".
ENDS_CONDITION: Final = re.compile(r"^(?:but|however|yet|since|because|但|但是|因为|所以|因此|不过)")
# The other case of a condition: "if it is red, A; otherwise B".
OTHERWISE: Final = re.compile(r"^(?:or |and )?(?:otherwise|else|in (?:that|which) case)\b|^否则")
# A clause that gives a reason, "because A is red": the letters in it are not chosen by standing there.
EXPLANATION: Final = re.compile(
    "^"
    + any_of(
        r"""because, since, as, while, whereas, (?:al)?though(?! i'?d?\b), given, considering, weil, parce que, porque,
        puisque, denn, 因为, 因為, 由于"""
    )
)
# "is it B?"
QUESTION: Final = re.compile(
    r"还是|是否|吗$|かどうか|^(?:is|are|does|do|could|can|would|should|which|what|how|why)\b(?=.*\?)"
)
# The answer to a question that was only asked to be answered: "Is it blue? Yes."
YES: Final = re.compile(r"^(?:yes|yeah|yep|yup|correct|right|indeed|exactly|true|是|是的|对)$")
# "it might be B"
HEDGE: Final = re.compile(
    rf"\b{any_of('maybe, perhaps, possibly, might, may, could, probably, suppose')}\b|\b(?:lean\w*|tempted|seems?)\b"
    r"|可能|也许|或许|大概"
)

# --- Comparisons: what others might say, what was said before, and which is next in line --------------------------

_OTHER = r"""wrong, incorrect, false, bad, previous, earlier, initial, original, old, prior, former, second, third,
    fourth, 2nd, 3rd, next, backup, alternative, alternate, other, another, common, typical, popular, tempting, worst,
    least \w+, less \w+, closest alternative, rejected, eliminated, excluded, unlikely, competing, rival,
    nearest competing, frequent, mistaken, distracting, first wrong"""
_CANDIDATE = """answers?, choices?, options?, ones?, guess, pick, candidate, alternative, response, match, best, most,
    message, mistake, error"""
_RIVAL = """alternatives?, runner-up, runner up, distractors?, decoy, trap, next comes, comes (?:next|second|close),
    followed by, (?:closest|nearest|main|only) rival"""
_PEOPLE = """some, someone, somebody, many, people, others?, most, you, they, one, anyone, viewers?, readers?, users?,
    students?, models?"""
_MIGHT_SAY = """might, may, could, would, often, say, says, think, thinks, choose, answer, pick, assume, believe, guess,
    mistake"""
_ERROR = r"tempt\w*, fooled, misle\w+, confus\w+, mistak\w+, could(?: also)? be (?:confused|mistaken)"
_EARLIER = r"""at first, initial\w*, originally, used to, formerly, once (?:was|were|said|read|showed),
    first (?:i )?(?:thought|guess\w*|chose|picked|said),
    i (?:had |have )?(?:first|once|said|thought|chose at first|would have), would have (?:been|chosen|picked|said),
    earlier, previously, before, almost, nearly, going to, about to"""
_SEEMING = "apparently, seemingly, supposedly"
_TASK = any_of("question, problem, image, case, example, task, round")
# "a common wrong answer is A", "some might say A", "I first thought A", "whether it is A"
COMPARISON: Final = re.compile(
    rf"\b{any_of(_OTHER)}(?: \w+){{0,2}} {any_of(_CANDIDATE)}\b"
    r"|\b(?:second|third|next)[- ](?:best|most|closest|likeliest)\b"
    rf"|\b{any_of(_RIVAL)}\b|\b{any_of(_PEOPLE)}(?: (?!the\b|see\b)\w+){{0,4}} {any_of(_MIGHT_SAY)}\b"
    r"|\b(?:anyone|someone|those|people|whoever)(?: who)? (?:choos|pick|select|answer|say)\w*|\b(?:you|one|they)'d\b"
    rf"|\b(?:{any_of(_ERROR)}|{any_of(_EARLIER)}|{any_of(_SEEMING)})\b"
    rf"|\b{any_of('similar, another, different, other, earlier, previous, last')} {_TASK}s?\b"
    r"|\b(?:each|whether|either)\b|\bevery (?:option|choice)\b"
    r"|\b(?:options|choices|candidates|possibilities)(?: \w+){0,2} (?:are|include|:)"
    r"|有人|很多人|可能会|容易|之前|第二(?=选择|选项|可能|候选|接近|$)|其次|备选|乍一看"
)
