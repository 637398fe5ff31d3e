"""What may stand beside a letter that is an option, and how options are counted."""

from __future__ import annotations

import re
from typing import Final

from p2r.answers.phrases.pattern import any_of, word_set

# "option 2", "the second choice"
COUNTED_NOUNS: Final = word_set("option options choice answer")
CARDINALS: Final = ["1", "one", "2", "two", "3", "three", "4", "four", "5", "five", "6", "six"]
ORDINALS: Final = ["first", "1st", "second", "2nd", "third", "3rd", "fourth", "4th", "fifth", "5th", "sixth", "6th"]
LAST: Final = ("last", "final")
# "The first one" is an option only where it is called one: "the answer is the first one".
BEFORE_ORDINAL: Final = word_set("is : pick choose select with answer choice option it's be")
# "The first choice is": a choice is ranked.
BEFORE_CHOICE: Final = (":", "is", "was", "would")
# The verdict that makes "the third one" an option: "the third one is correct".
VERDICT_ON_ONE: Final = re.compile(
    rf"{any_of('is, must be, should be, seems, looks, appears')}(?: \w+ly| the| most| indeed| to be)*"
    rf" {any_of('correct, right, best, true, answer, it')}\b|(?:\w+ly )?(?:fits|matches)\b"
)
# "the answer is the" second
CALLS_ANSWER: Final = re.compile(r"\b(?:answer|choice|option)(?: should be| must be| is| would be|:) the$")
# "the last option in the list"
OF_LIST: Final = re.compile(
    rf"(?:{any_of('in, of, on, from')} the {any_of('list, options, choices, four, five, answers')}"
    rf"|{any_of('listed, given, offered, shown')}(?: above| here)?|above)\b"
)
# "the second option" as one token; without a noun only where a verdict follows: "第三个正确".
_NOUN_EAST = any_of("选项, 選項, 项, 項, 答案")
_ALONE_EAST = "(?:[个個](?=是?(?:正确|正確|对的|對的)))"
POSITION_EAST: Final = rf"(?:第\s?[一二三四五六1-6]\s?|最[后後]一)(?:[个個]?{_NOUN_EAST}|{_ALONE_EAST})"
POSITION_EAST_TOKEN: Final = re.compile(rf"(?:第\s?(?P<place>[一二三四五六1-6])\s?|最[后後]一)[个個]?{_NOUN_EAST}?")
# The words before a letter that is called something: "it is b".
LINKS: Final = word_set(": = is are be was as est es é è ist lautet är er jest это c'est it's that's")
BEFORE_SMALL_LETTER: Final = LINKS | word_set("answer option choice letter choose pick so opción opção réponse")
# The words before a letter that leave it an option. After any other word it is a part of a name: Company B, point A.
BEFORE_LETTER: Final = BEFORE_SMALL_LETTER | word_set(
    """a an the my me us i it this that these there which what only just not no yes nor or and but than then thus hence
    therefore because since as if so while whereas although though unless when whether either neither both between among
    with without for from to toward of on in at by like over against except besides versus vs via about around
    into be being been am were isn't aren't wasn't would should could might may must can cannot can't don't
    ans letters options choices answers response result output conclusion selection verdict guess bet match final best
    correct right incorrect wrong actual true likely one e.g i.e namely
    choosing chose chosen picks picking picked select selects selecting selected go going went opt opting settle take
    takes prefer say said saying think thought believe guessed mean meant see know find found consider considering
    check also eliminate eliminates eliminated eliminating exclude excludes excluded excluding reject rejected out
    leaving leaves leave left remains indicates suggests means shows confirms supports answering matches fits
    wait okay ok hmm sorry oops well still rather instead now again perhaps maybe always never ever corrected revised
    wähle choisis elijo scelgo escolho выбираю la le les el los il lo der die das den de du una un une opción
    opção lettre letra buchstabe lettera option antwort
    respuesta resposta risposta réponse nicht pas non não no sino sondern mais pero ma est-ce c'est jest adalah choix"""
)
# The same in scripts without blanks: what may end before a letter, and begin behind it.
BEFORE_LETTER_EAST: Final = (
    "なく",
    "라",
    *"选選择擇是为為案项項以应應该該了定即而非不除下有与與和或比于成出故就选は가이은는를을로의답では、",
)
AFTER_LETTER_EAST: Final = (
    *"是不项項選选正对對才最更吗和或与與也都错錯符匹就则則可看的と입이가은는을를로でではがはもをの",
    "而不是",
    "排除",
    "应该",
    "だ",
)
# "A" before any other word is an article.
AFTER_LETTER: Final = word_set(
    """and as because being based but can cannot can't could couldn't considering did didn't does doesn't due fits fit
    for from given has hasn't if in instead is isn't it looks matches matched may might must nor not on or over rather
    remains seems should since so that the then therefore there this to too was wasn't were which while whereas will
    when where but although though unless provided providing assuming supposing depending than after
    with would wouldn't won't appears corresponds best better works alone only clearly says describes also even"""
)
