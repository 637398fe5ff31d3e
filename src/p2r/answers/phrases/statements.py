"""How an option is called the answer, strongly or weakly, and how it is only spoken of."""

from __future__ import annotations

import re
from typing import Final

from p2r.answers.phrases.pattern import OPTION, any_of

_ANSWER = any_of(
    """answer, ans, choice, option, (?:best|closest|better) (?:match|fit|candidate), response, result, output,
    conclusion, selection, verdict, pick, guess, bet, vote, one, réponse, respuesta, resposta, risposta, antwort, ответ,
    jawaban, cevap, antwoord, odpowiedź, svar, الإجابة, الجواب, उत्तर"""
)
_BE = any_of(
    """is, are, was, 's, be, being, remains, seems, appears, looks, would, should, must, will, has to, have to,
    ought to, might, may, could, can only, to, :, =, ->, =>, with, must be, est, es, é, è, ist, lautet, sería, serait,
    это, jest, adalah, هي, هو, है, là"""
)
_FILLER = (
    any_of(
        r"""the, an?, my, la, le, el, die, der, das, lettre, letra, buchstabe, opción, opção, option, opzione, choice,
        letter, answer, number, indeed, just, then, thus, therefore, still, correct, best, right, likely, most, one,
        probably, not sure, in fact, actually, again, :, \w+ly"""
    )
    + " "
)
_OF = any_of("to, for, of, in, that, from, here, based, given, i, we, which")
_OF_QUESTION = rf"(?: {_OF}\b(?: [^A-Z\s:]+){{0,7}}?)?"
_CHOOSE = any_of(
    """choos(?:e|ing), chose, chosen, pick(?:ed|ing)?, select(?:ed|ing)?, go(?:ing)? (?:with|for), opt(?:ing)? for,
    prefer, settl(?:e|ed|ing) (?:on|for), vote for, stick with, take, choisis, elijo, wähle, scelgo, escolho, выбираю"""
)
_IS_THE = any_of(
    r"""is, was, more, much, far, slightly, would, must, should, has to, be, seems, looks, appears, to, remains, 's,
    therefore, thus, then, indeed, clearly, definitely, most likely, \w+ly, the, my, only, option, choice, answer, also,
    really, in fact, probably, likely, most"""
)
_RIGHT = any_of(
    """correct, accurate, true, plausible, likely, likelier, probable, consistent, appropriate, fitting, suitable,
    reasonable, answer, best answer, right answer, one, it"""
)
_OF_PLACE = any_of("behind, on, in the row, next, at, that is not")
_BEST = any_of("right, best, final, closest, closer, better, only")
_CHOICE = any_of("answer, option, choice, one, match, fit, candidate, letter, here")
_EXCEPT = (
    rf"\b(?:(?P<all>{any_of('all, everything, every, any, anything, each')})|none|nothing|no)"
    rf"(?: {any_of('of, the, options?, choices?, answers?, ones?, others?, else, letters?')}){{0,4}}"
    rf" {any_of('except, but, besides, than, apart from, save')}"
    rf"(?: {any_of('for, the, option, choice, answer')}){{0,3}} "
)
# What is said of all other options: "all options except B are wrong".
ALL_EXCEPT: Final = re.compile(rf"{_EXCEPT}$")
_ANSWER_EAST = any_of("答案, 正解, 选择, 選擇, 应选, 應选, 应该选, 选, 正确选项, 正确的是, 回答, 答え, 정답, 답")
_BE_EAST = any_of("选项, 是, 就, 为, 為, 应该, 应当, 应, 该, 为选项, は, 은, 는, ：, :, 的, 项, 了, 我")
_RIGHT_EAST = any_of("正确, 对的, 对$, 符合, 答案, 准确, 合适, 正解, が正解, 가 정답, 이 정답, が正しい")
STRONG: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # "the answer to this question is B", "final choice : B", "answer with B"
        rf"\b{_ANSWER}\b{_OF_QUESTION}(?: {_BE}){{1,3}} (?:{_FILLER}){{0,5}}{OPTION}",
        # "answer B"; not "answer B describes the hull"
        rf"\b(?:answer|ans)\b (?:{_FILLER}){{0,4}}{OPTION}(?! (?:is|was|the|an|describes|refers|belongs|would)\b)",
        # "I choose option B", "go with B"
        rf"\b{_CHOOSE} (?:{_FILLER}){{0,4}}{OPTION}",
        # "B is the correct answer", "B is correct", "B is the answer"; not "B is the one behind the car"
        rf"{OPTION} (?:{_IS_THE} ){{1,5}}(?:{_RIGHT}\b(?! {_OF_PLACE}\b)|{_BEST}(?: {_CHOICE})?(?=$))",
        # "I change my answer from A to B"
        r"\b(?:chang|switch|revis|updat|amend)(?:e|ed|es|ing)?(?: \S+){1,5}? (?:to|into) "
        rf"(?:{_FILLER}){{0,4}}{OPTION}",
        # "correct : B"
        rf"^(?:the )?(?:correct|right|true)(?: (?:one|letter))? : {OPTION}",
        # "all options except B are wrong", "nothing but B fits"
        rf"{_EXCEPT}{OPTION}",
        # "答案是 B", "应选 B"
        rf"{_ANSWER_EAST}(?:{_BE_EAST}| ){{0,6}}{OPTION}",
        # "选项 B 是正确的", "B 才对"
        rf"{OPTION} ?(?:选项|项)?(?:才|就|则)?(?:是|为)?(?:最)?(?:唯一)?{_RIGHT_EAST}",
    )
)
_SAY = any_of(
    r"""say, think, believe, guess, suspect, lean toward\w*, correspond(?:s|ing)? (?:to|with), match(?:es|ing)?,
    points? to, agree with, consistent with, makes? it, making it, yields, gives, leaves?, leaving, left with,
    remaining, favou?rs?, closest to, same as(?: in)?, indicates, suggests, must be, should be"""
)
_IT_IS = any_of("it is, it's, that, us, with, me")
_FITS = any_of(
    "fits?, match(?:es)?, it is, works, aligns?, agrees, describes, remains, better, wins, is left, is better, is it"
)
_ONLY_FITS = any_of(
    """match, fit, agree, align, correct, right, work, remain, left, possible, consistent, true, plausible, describe,
    correspond, show"""
)
_SO = any_of(
    """so, and, then, thus, therefore, hence, but, actually, probably, likely, must be, should be, no, yes, wait,
    make that, i mean, i meant, sorry, rather, that, it, this, is, it's, has to be, would be, i.e, namely, ok, okay,
    well, hmm, now, in fact, means, surely, definitely, clearly, of course, correction, corrected, revised, only, c'est,
    es, ist, è, é, sino, sondern, mais, est, es ist, conclusion, final, instead, =, leaves, leaving, remaining, ans"""
)
_SO_EAST = any_of(
    "所以, 因此, 故, 那么, 就, 应该, 即, 而, 只, 剩下, 只剩, 是, 选项, 的, 有, 下, 综上, 总之, 也, 才, 则, 而是, 只有"
)
WEAK: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # "I'd say B", "which corresponds to option B"
        rf"\b(?:i'd|i would|i)? ?{_SAY}(?: {_IT_IS})* ?(?:{_FILLER}){{0,4}}{OPTION}",
        # "more likely B than C"
        rf"\b(?:(?:more|rather)(?: \w+ly| likely| probable)?|likelier|sooner) (?:it's |it is |is )?{OPTION} than\b",
        # "A is less likely than B"
        rf"\b(?:less|worse)(?: \w+)? than (?:{_FILLER}){{0,3}}{OPTION}",
        # "B fits best", "B it is", "only B remains"
        rf"{OPTION} (?:(?:\w+ly|best|better|alone|also|seems|appears|to|does|would) ){{0,2}}{_FITS}\b"
        r"(?! the (?:hull|flag|car|boat|sky))",
        # "C is" where the others are not
        rf"^(?:(?:but|so|and|only|option|choice) )*{OPTION} (?:is|does)$",
        # "only C matches the flag"
        rf"\bonly (?:option |choice |letter )?{OPTION} (?:can be |is |could be |seems )?{_ONLY_FITS}",
        # "so B", "it is B", "no, B": nothing but such words and the letter
        rf"^(?:{_SO} )+(?:(?:the|la|el|das|option|choice|letter|answer|more|most|likely|:) ){{0,3}}{OPTION}$",
        # "所以 B"
        rf"^(?:{_SO_EAST}| ){{1,6}}{OPTION}(?:$|项|选项)",
    )
)
# "option B"
NAMED: Final = re.compile(rf"\b(?:option|choice|letter|opción|opção|lettre)\b (?:: )?{OPTION}")
NAMED_EAST: Final = re.compile(rf"选项 ?{OPTION}")
# What an option is, is not that it is chosen: "B. A is the color of the mast".
_DESCRIBES = "is, are, was, were, would be, describes?, refers?, belongs?, names?, mentions?, lists?, stands?"
DESCRIBED_AFTER: Final = re.compile(rf" (?:(?:all|both|each|just|only|merely) )?{any_of(_DESCRIBES)}\b")
_LOOK_AT = any_of(
    r"""consider\w*, check\w*, compar\w+, examin\w+, evaluat\w+, analy\w+, test\w*, look\w* at, verify\w*, assess\w*,
    discuss\w*, regarding, about, for, starts? with, begins? with, reads, says"""
)
# Looking at an option is not choosing it: "compare with option A".
LOOKED_AT: Final = re.compile(rf"\b{_LOOK_AT}(?: (?:with|to|against|the|at|option|choice|letter|:))* [A-Z/]+")
# "\boxed{B}"
BOXED: Final = re.compile(r"\\boxed\s{0,4}\{((?:[^{}]|\{[^{}]*\})*)\}")
