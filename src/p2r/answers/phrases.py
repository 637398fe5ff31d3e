"""The words by which a reply chooses, denies, supposes and corrects: the tables of `choice`.

The patterns match clauses as `clauses` writes them: in lower case, with single blanks, without markup; each mention of
an option is one capital ("the answer is B"), and a list of options has strokes ("A/B"). So `[A-Z]` is an option, and
whatever is not an option is in lower case. A language is added by adding its words to these tables.
"""

from __future__ import annotations

import re
from typing import Final


def _compile(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts))


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text, which are divided by blanks."""
    return frozenset(words.split())


OPTION: Final = r"(?<![A-Z/])(?P<letter>[A-Z](?:/[A-Z])*)"
"""An option, or a list of options."""

# --- What may stand beside a letter that is an option -------------------------------------------------------------

COUNTED_NOUNS: Final = word_set("option options choice answer")
CARDINALS: Final = ["1", "one", "2", "two", "3", "three", "4", "four", "5", "five", "6", "six"]
ORDINALS: Final = ["first", "1st", "second", "2nd", "third", "3rd", "fourth", "4th", "fifth", "5th", "sixth", "6th"]
# "The first one" is an option only where it is called one: "the answer is the first one".
BEFORE_ORDINAL: Final = word_set("is : pick choose select with answer choice option it's be")
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
    check eliminate eliminates eliminated eliminating exclude excludes excluded excluding reject rejected out
    leaving leaves leave left remains indicates suggests means shows confirms supports answering matches fits
    wait okay ok hmm sorry oops well still rather instead now again perhaps maybe always never ever corrected revised
    wähle choisis elijo scelgo escolho выбираю la le les el los il lo der die das den de du una un une opción
    opção lettre letra buchstabe lettera option antwort
    respuesta resposta risposta réponse nicht pas non não no sino sondern mais pero ma est-ce c'est jest adalah choix"""
)
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
    with would wouldn't won't appears corresponds best better works alone only clearly says describes also even"""
)

# --- Where a clause ends ------------------------------------------------------------------------------------------

OPENERS: Final = word_set(
    """because since as so but although though while whereas if unless when whether therefore thus hence which who and
    or leaving leaves given considering however yet then until otherwise mais sino sondern pero parce porque weil aber
    denn donc então quindi perché"""
)
ALL_OR_NONE: Final = word_set("all any everything anything nothing none options choices answers")
# A contrast begins a clause after an option: "B, not A", "C rather than B".
CONTRASTS: Final = word_set("not rather instead over nor unlike nicht não non pas ne")
OPENERS_EAST: Final = re.compile(
    r"因为|因為|由于|所以|因此|但是|但|而不是|而非|如果|若是|假如|剩下|只剩|そのため|なぜなら|따라서|왜냐하면"
)
# A line or a clause that ends so goes on in the next one.
GOES_ON: Final = _compile(
    r"(?:^|^(?:\S+ ){0,6})(?:answer|ans|choice|conclusion|verdict|selection|response|answer is|option is|答案|正解"
    r"|정답)(?: is)?(?: :)?$"
)

# --- What kind of clause it is ------------------------------------------------------------------------------------

# Negations that say yes.
NO_NEGATION: Final = _compile(
    r"\b(?:no|without(?: a)?|beyond(?: a| any)?|not a) (?:doubt|question)\b|\bnot (?:only|just|hard to see)\b"
    r"|\bno other (?:than|option than)\b"
    r"|\bnone other than\b|\bnothing but\b|\b(?:i'm|i am|am|is) not (?:\w+ly |100% )?(?:sure|certain|mistaken)\b"
    r"|不难看出|毫无疑问|无疑|不过|不仅"
)
NEGATION: Final = _compile(
    r"\b(?:not|never|neither|nor|no|none|nobody|nothing|cannot|hardly|barely|scarcely|unlikely|implausible"
    r"|doubt\w*|(?:small|slight|slim|little|low) chance|rul\w+ out"
    r"|eliminat\w+|exclud\w+|reject\w*|dismiss\w*|discard\w*|refus\w+|declin\w+|avoid\w*|except|wrong\w*"
    r"|incorrect\w*|false\w*|against|far from|unlike"
    r"|rather than|instead of|over|cross\w* out|strike out|no longer|nicht|kein\w*|não|pas|non|ne|нет|не|ليس|nein"
    r"|falsch|faux|falso)\b|\w+n't\b"
    r"|不|没|没有|非|别|排除|错|誤|ない|아니"
)
DENIED_AFTER: Final = _compile(
    r"(?: (?:option|choice|answer|one))?(?: (?:is|are|was|were|would|must|may|might|could|can|be|seems?|looks?"
    r"|appears?|does|do|did"
    r"|has|have|to|the|an?|also|just|far|too|quite|clearly|\w+ly|then|both|all|therefore|so|:)){0,4}"
    r" (?:not|\w+n't|cannot|wrong|incorrect|false|inaccurate|impossible|implausible|improbable|unlikely|hardly"
    r"|barely|out|ruled|eliminated"
    r"|excluded|rejected|invalid|dismissed|no|never|far from|fails?|lacks?|contradicts?|tempting"
    r"|nicht|no es|n'est|ist nicht|não|non|falsch|неверно|mismatch)\b"
    r"| ?(?:选项|项)?(?:也|并|是|都|则|就|显然)?(?:不|错|有误|没|排除|可以排除)|(?: ?ではな| ?가 아니| ?이 아니)"
)
CONDITION: Final = _compile(
    r"^(?:(?:and|but|so|or|then|that|only) ){0,2}(?:if|unless|suppose|supposing|assuming|provided|were|had"
    r"|should the|in case|imagine|wenn|si|se|если)\b"
    r"|^(?:如果|若|假如|要是|倘若|除非|假设)|もし|만약|\bif\b"
)
# Conditions that only say how the speaker looks, and bind nothing.
RHETORICAL: Final = _compile(
    r"\b(?:if|unless) (?:i|we|you|one) (?:(?:\w+ly|really|just|'m|am|are|were|do|can) ){0,2}(?:look|looks|zoom|see"
    r"|inspect|examine|compare|count|check"
    r"|read|not|recall|remember|had to|have to|must|forced|understand|consider|go by|judge|mistaken|wrong|trust"
    r"|pay|focus|miss|missed)\b"
    r"|\b(?:if|unless) (?:i'm|i am|you're|we're) (?:\w+ )?(?:mistaken|wrong|correct|right|reading|seeing|forced)\b"
    r"|\b(?:unless|if) (?:the light|my eyes|the image|something)\b|\b(?:even|as|see|check|know|sure|tell|determine"
    r"|out) if\b|\bif (?:any|possible|so|needed|necessary)\b"
)
# A clause that gives a reason: the letters in it are not chosen by standing there.
EXPLANATION: Final = _compile(
    r"^(?:because|since|as|while|whereas|although|though|given|considering|weil|parce que|porque|puisque|denn|因为"
    r"|因為|由于)"
)
# Where what follows is bound by a condition no more.
ENDS_CONDITION: Final = _compile(r"^(?:but|however|yet|since|because|但|但是|因为|所以|因此|不过)")
# What others might say, what was said before, and which is next in line.
_LESS = (
    r"(?:wrong|incorrect|false|bad|previous|earlier|initial|original|old|prior|former|second|third|fourth|2nd|3rd"
    r"|next|backup|alternative"
    r"|alternate|other|another|common|typical|popular|tempting|worst|least \w+|less \w+|closest alternative"
    r"|rejected|eliminated|excluded"
    r"|unlikely|competing|rival|nearest competing|frequent|mistaken|distracting|first wrong)"
)
COMPARISON: Final = _compile(
    rf"\b{_LESS}(?: \w+){{0,2}} (?:answers?|choices?|options?|ones?|guess|pick|candidate|alternative|response"
    rf"|match|best|most|message|mistake|error)\b"
    rf"|\b(?:second|third|next)[- ](?:best|most|closest|likeliest)\b|\b(?:alternatives?|runner-up|runner up"
    rf"|distractors?|decoy|trap|(?:closest|nearest|main|only) rival)\b"
    r"|\b(?:some|someone|somebody|many|people|others?|most|you|they|one|anyone|viewers?|readers?|users?|students?"
    r"|models?)(?: (?!the\b|see\b)\w+){0,4}"
    r" (?:might|may|could|would|often|say|says|think|thinks|choose|answer|pick|assume|believe|guess|mistake)\b"
    r"|\b(?:anyone|someone|those|people|whoever)(?: who)? (?:choos|pick|select|answer|say)\w*"
    r"|\b(?:you|one|they)'d\b|\btempt\w*|\bfooled\b|\bmisle\w+|\bconfus\w+|\bmistak\w+|\bat first\b|\binitial\w*"
    r"|\boriginally\b|\bfirst (?:i )?(?:thought|guess\w*|chose|picked|said)\b"
    r"|\bi (?:had |have )?(?:first|once|said|thought|chose at first|would have)\b|\bwould have (?:been|chosen"
    r"|picked|said)\b|\bapparently\b|\bseemingly\b|\bsupposedly\b"
    r"|\b(?:earlier|previously|before|almost|nearly|going to|about to)\b|\b(?:similar|another|different|other"
    r"|earlier|previous) (?:question|problem|image|case|example|task|round)s?\b|\beach\b|\bevery (?:option"
    r"|choice)\b|\b(?:options|choices|candidates|possibilities)(?: \w+){0,2} (?:are|include|:)"
    r"|\bwhether\b|\beither\b|\bcould(?: also)? be (?:confused|mistaken)\b|有人|很多人|可能会|容易|之前|第二|其次"
    r"|备选|乍一看"
)
QUESTION: Final = _compile(
    r"还是|是否|吗$|かどうか|^(?:is|are|does|do|could|can|would|should|which|what|how|why)\b(?=.*\?)"
)
# An answer to a question that was only asked to be answered.
YES: Final = _compile(r"^(?:yes|yeah|yep|yup|correct|right|indeed|exactly|true|是|是的|对)$")
HEDGE: Final = _compile(
    r"\b(?:maybe|perhaps|possibly|might|may|could|probably|suppose|lean\w*|tempted|seems?)\b|可能|也许|或许|大概"
)

# What makes a later answer count: words of correction, anywhere since the earlier answer, and of conclusion,
# in its sentence.
CORRECTION: Final = _compile(
    r"^(?:(?:oh|and|but|hmm|well|ah|so|or) )*(?:wait|actually|sorry|oops|correction|corrected|scratch that|i mean"
    r"|i meant|make that|rather(?! than)|hmm"
    r"|apologies|i apologi[sz]e|my mistake|my bad|strike that|hold on|revised|revision|edit|update|just kidding"
    r"|let me (?:re\w*|look again|check again|correct|revise|double)"
    r"|on (?:second thought|closer|reflection|a closer|re\w+|further)|(?:looking|look|checking|check|zooming"
    r"|thinking) (?:again|closer|more)"
    r"|upon|after (?:re\w+|a closer|another|closer|looking again|zooming)|no(?: no| wait)?$|nope|i was wrong"
    r"|that is wrong|that's wrong|not quite)"
    r"|\b(?:but now|correction|corrected|i correct|i change|chang(?:e|ed|ing) (?:it|my)|i stand corrected|actually"
    r"|wait no|no wait)\b"
    r"|不对|等等|更正|改为|纠正|修正|再看|仔细看|^不是?$|訂正|아니"
)
CONCLUSION: Final = _compile(
    r"^(?:(?:and|but) )?(?:so|therefore|thus|hence|finally|overall|ultimately|conclusion|in (?:conclusion|the end"
    r"|short|sum\w*)|to (?:conclude|sum\w*)|=|that (?:leaves|means)|ergo)\b"
    r"|^=|\bfinal\b|\bfinally\b|\btherefore\b|所以|因此|综上|最终|总之|故|最后|よって|したがって|따라서|\bdonc\b"
    r"|\bpor (?:lo )?tanto\b|\bdaher\b|\balso ist\b|\bquindi\b|\bportanto\b"
)

# --- How an option is called the answer ---------------------------------------------------------------------------

_ANSWER = (
    r"(?:answer|ans|choice|option|response|result|output|conclusion|selection|verdict|pick|guess|bet|vote|one"
    r"|réponse|respuesta|resposta|risposta|antwort|ответ|jawaban|cevap|antwoord|odpowiedź|svar|الإجابة|الجواب|उत्तर)"
)
_BE = (
    r"(?:is|are|was|'s|be|being|remains|seems|appears|looks|would|should|must|will|has to|have to|ought to|might"
    r"|may|could|can only|to"
    r"|:|=|->|=>|with|must be|est|es|é|è|ist|lautet|sería|serait|это|jest|adalah|هي|هو|है|là)"
)
_FILLER = (
    r"(?:(?:the|an?|my|la|le|el|die|der|das|lettre|letra|buchstabe|opción|opção|option|opzione|choice|letter"
    r"|answer|number|indeed|just|then|thus"
    r"|therefore|still|correct|best|right|likely|most|one|probably|not sure|in fact|actually|again|:|\w+ly) )"
)
_EXCEPT = (
    r"\b(?:(?P<all>all|everything|every|any|anything|each)|none|nothing|no)"
    r"(?: (?:of|the|options?|choices?|answers?|ones?|others?)){0,4} (?:except|but|besides|than|apart from|save)"
    r"(?: (?:for|the|option|choice|answer)){0,3} "
)
# What is said of all other options: "all options except B are wrong".
ALL_EXCEPT: Final = _compile(rf"{_EXCEPT}$")
STRONG: Final = (
    # "the answer to this question is B", "final choice : B", "answer with B"
    _compile(
        rf"\b{_ANSWER}\b(?: (?:to|for|of|in|that|from|here|based|given|i|we"
        rf"|which)\b(?: [^A-Z\s:]+){{0,7}}?)?(?: {_BE}){{1,3}} {_FILLER}{{0,5}}{OPTION}"
    ),
    # "answer B"
    _compile(rf"\b(?:answer|ans)\b {_FILLER}{{0,4}}{OPTION}"),
    # "I choose option B", "go with B"
    _compile(
        r"\b(?:choos(?:e|ing)|chose|chosen|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)? (?:with|for)"
        r"|opt(?:ing)? for|prefer"
        r"|settle (?:on|for)|vote for|stick with|take"
        rf"|choisis|elijo|wähle|scelgo|escolho|выбираю) {_FILLER}{{0,4}}{OPTION}"
    ),
    # "B is the correct answer", "B is correct", "B is the answer"
    _compile(
        rf"{OPTION} (?:(?:is|would|must|should|has to|be|seems|looks|appears|to|remains|'s|therefore|thus|then"
        rf"|indeed|clearly|definitely|most likely|\w+ly|the|my|only"
        r"|option|choice|answer|also|really|in fact|probably|likely|most) ){1,5}"
        r"(?:(?:correct|accurate|true|plausible|likely|consistent|appropriate|fitting|suitable|reasonable|answer"
        r"|best answer|right answer|one|it)\b(?! (?:behind|on|in the row|next|at|that is not))"
        r"|(?:right|best|final|closest|better|only)(?: (?:answer|option|choice|one|match|fit|candidate|letter"
        r"|here))?(?=$))"
    ),
    # "I change my answer from A to B", "correct : B"
    _compile(
        rf"\b(?:chang|switch|revis|updat|amend)(?:e|ed|es|ing)?(?: \S+){{1,5}}? (?:to|into) {_FILLER}{{0,4}}{OPTION}"
    ),
    _compile(rf"^(?:the )?(?:correct|right|true)(?: (?:one|letter))? : {OPTION}"),
    # "all options except B are wrong", "nothing but B fits"
    _compile(rf"{_EXCEPT}{OPTION}"),
    # "答案是 B", "应选 B"
    _compile(
        r"(?:答案|正解|选择|選擇|应选|應選|应该选|选|正确选项|正确的是|回答|答え|정답|답)"
        rf"(?:选项|是|就|为|為|应该|应当|应|该|为选项|は|은|는|：|:|的|项| |了|我){{0,6}}{OPTION}"
    ),
    # "选项 B 是正确的", "B 才对"
    _compile(
        rf"{OPTION} ?(?:选项|项)?(?:才|就|则)?(?:是|为)?(?:最)?(?:唯一)?(?:正确|对的|对$|符合|答案|准确|合适|正解"
        rf"|が正解|가 정답|이 정답|が正しい)"
    ),
)
WEAK: Final = (
    # "I'd say B", "which corresponds to option B"
    _compile(
        r"\b(?:i'd|i would|i)? ?(?:say|think|believe|guess|suspect|lean toward\w*|correspond(?:s|ing)? (?:to|with)"
        r"|match(?:es|ing)?|points? to|agree with|consistent with|makes? it|making it|yields|gives"
        rf"|leaves?|leaving|left with|remaining|favou?rs?|closest to|same as(?: in)?|indicates|suggests|must be"
        rf"|should be)(?: (?:it is|it's|that|us|with|me))* ?{_FILLER}{{0,4}}{OPTION}"
    ),
    # "B fits best", "B it is", "only B remains"
    _compile(
        rf"{OPTION} (?:(?:\w+ly|best|better|alone|also|seems|appears|to|does|would) ){{0,2}}(?:fits?|match(?:es)?"
        rf"|it is|works|aligns?|agrees|describes|remains|better|wins|is left|is better|is it)\b(?! the (?:hull"
        rf"|flag|car|boat|sky))"
    ),
    # "C is" where the others are not, "only C matches the flag"
    _compile(rf"^(?:(?:but|so|and|only|option|choice) )*{OPTION} (?:is|does)$"),
    _compile(
        rf"\bonly (?:option |choice |letter )?{OPTION} (?:can be |is |could be |seems )?"
        r"(?:match|fit|agree|align|correct|right|work|remain|left|possible|consistent|true|plausible|describe|correspond|show)"
    ),
    # "so B", "it is B", "no, B": nothing but such words and the letter
    _compile(
        r"^(?:(?:so|and|then|thus|therefore|hence|but|actually|probably|likely|must be|should be|no|yes|wait"
        r"|make that|i mean|i meant|sorry|rather|that|it|this|is|it's|has to be"
        r"|would be|i.e|namely|ok|okay|well|hmm|now|in fact|means|surely|definitely|clearly|of course|correction"
        r"|corrected|revised|only|c'est|es|ist|è|é"
        r"|sino|sondern|mais|est|es ist|conclusion|final|instead|=|leaves|leaving|remaining|ans) )+"
        rf"(?:(?:the|la|el|das|option|choice|letter|answer|more|most|likely|:) ){{0,3}}{OPTION}$"
    ),
    _compile(
        rf"^(?:所以|因此|故|那么|就|应该|即|而|只|剩下|只剩|是|选项|的|有|下|综上|总之|也|才|则|而是|只有"
        rf"| ){{1,6}}{OPTION}(?:$|项|选项)"
    ),
)
NAMED: Final = _compile(rf"\b(?:option|choice|letter|opción|opção|lettre)\b (?:: )?{OPTION}")
NAMED_EAST: Final = _compile(rf"选项 ?{OPTION}")
# Looking at an option is not choosing it: "compare with option A".
LOOKED_AT: Final = _compile(
    r"\b(?:consider\w*|check\w*|compar\w+|examin\w+|evaluat\w+|analy\w+|test\w*|look\w* at|verify\w*|assess\w*"
    r"|discuss\w*|regarding|about|for|starts? with|begins? with|reads|says"
    r")(?: (?:with|to|against|the|at|option|choice|letter|:))* [A-Z/]+"
)
BOXED: Final = re.compile(r"\\boxed\s{0,4}\{((?:[^{}]|\{[^{}]*\})*)\}")

# --- A verdict on each option -------------------------------------------------------------------------------------

VERDICT_NO: Final = re.compile(
    r"\b(?:no|not|incorrect\w*|wrong|false|\w+n['’]t|mismatch|absent|cannot|ruled out|eliminated|excluded|unlikely"
    r"|neither|never)\b"
    r"|[❌✗✘✖×☒]|不|错|否|没|\bdoes not\b",
    re.IGNORECASE,
)
VERDICT_YES: Final = re.compile(
    r"\b(?:yes|correct|right|true|match(?:es)?|fits|visible|present)\b|[✅✓✔☑√]|是|对|正确|符合", re.IGNORECASE
)
SHARE: Final = re.compile(r"\b(\d{1,3}(?:\.\d{1,3})?)\s?%|(?<![\d.])([01]?\.\d{1,4})\b")
# A box before an option that is ticked: "- [x] B. blue".
TICKED: Final = re.compile(r"\[[xX✓✔]\][ *_(]*(?:[Oo]ption )?$")
TICK_BOX: Final = re.compile(r"\[[ xX✓✔]\](?=[ *_(]{0,4}(?:[Oo]ption )?[A-Z])")
# What announces that options are gone through: "Let's check each option:".
ANNOUNCEMENT: Final = re.compile(
    r"(?:\b(?:options?|choices?|candidates?|possibilities|each|one by one|alternatives|analyz\w+|compar\w+)\b|选项"
    r"|逐一|分析)[^\n]{0,80}$",
    re.IGNORECASE,
)

# A text that ends so was cut off.
UNFINISHED: Final = _compile(
    r"\b(?:is|are|was|the|an|of|and|or|so|since|because|to|in|on|with|this|that|but|if|as|at|by|for|from|which|it"
    r"|its|there|than|these|while|i|we|seems|appears|looks|has|have|can"
    r"|were|does)$|[.!?:\n]\s+(?:[Tt]he|[Tt]his|[Ii]ts) [^\W\d]+$|\w+ \w+ \w+,$|\($"
)
REFUSAL: Final = _compile(
    r"\b(?:cannot|can't|could not|couldn't|unable to|impossible to|hard to|difficult to) (?:\w+ )?(?:tell|say"
    r"|determined?|see|identify|decide|answer|be determined|read|know|make out|confirm)\b"
    r"|\b(?:don't|do not) know\b|\bnot (?:sure|certain|clear|visible|possible|enough)\b|\bunclear\b|\bunknown\b"
    r"|无法|不清楚|不知道|看不清"
)
