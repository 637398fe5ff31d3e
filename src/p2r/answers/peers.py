"""Read a reply as the scorers of other systems do, mistakes included, to compare with the numbers that they print.

Sources: Haochen-Wang409/TreeVGR, inference_treebench.py (TreeBench); inclusionAI/Zooming-without-Zooming,
mm-eval/judge_qwenlm.py; open-compass/VLMEvalKit, vlmeval/dataset/utils/multiple_choice.py (MME-RealWorld, TreeBench);
Mini-o3/Mini-o3, verl/utils/reward_score/general_qa_tool_mc.py (V* and other choices); Visual-Agent/DeepEyes,
eval/judge_result.py (V*); EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/vstar_bench/utils.py; om-ai-lab/ZoomEye,
ZoomEye/eval/eval_results_hr-bench.py. What ZwZ's rule denies, and what DeepEyes' rule cannot tell, their authors then
ask a judging model about; that is not repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from p2r.answers.mme_official import LEAD_INS, read_letter_like_mme
from p2r.types import LETTERS, Answer

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_ZWZ_LETTERS = (re.compile(r"\(([A-Z])\)"), re.compile(r"([A-Z])[.)\s]"), re.compile(r"([A-Z])"))
_ZWZ_ALONE = re.compile(r"\\(?:boxed|text)\{\(?([A-Za-z])\)?\}|\(?([A-Za-z])\)?")
_MINI_O3 = re.compile(r"\(([A-Z])\)|([A-Z])\.")
_VLMEVALKIT_LEAD_INS = (
    *LEAD_INS[:-2],
    *("The best option is", "The correct option is", "Best answer:", "Best option:"),
)
_BOXED = "\\boxed{"
_LMMS_LETTERS = (
    re.compile(r"\A([A-D])"),
    re.compile(r"(?:ANSWER|CHOICE|OPTION)(?:\s+IS)?[\s:]+([A-D])"),
    re.compile(r"\(([A-D])\)"),
    re.compile(r"([A-D])\s*[.)\]]"),
    re.compile(r"(?:\A|\s)([A-D])(?:\s|\Z)"),
)
"""The places of a letter in a reply in capitals, in the order in which lmms-eval tries them."""
_BARE_OPTIONS = tuple(f"({letter})" for letter in "ABCDE")


def read_treevgr(reply: str) -> Answer:
    """Read the first answer tag, or else the whole reply; it has to be the letter and nothing else."""
    match = _TAGGED.search(reply)
    text = match[1].strip().upper() if match else reply
    letter = text.upper() if len(text) == 1 and text.upper() in LETTERS else None
    return Answer(text=text, letter=letter, rule="treevgr")


def read_zwz(reply: str) -> Answer:
    """Read the answer tag, else what begins with "Answer:", else the last three lines; of it a letter in brackets, one
    with a dot, bracket or blank behind it, or the first capital."""
    if "<answer>" in reply:
        text = reply[reply.find("<answer>") : reply.find("</answer>")]
        text = text.replace("<answer>", "").replace("</answer>", "")
    elif "Answer:" in reply:
        text = reply[reply.find("Answer:") :]
    else:
        text = "\n".join(reply.split("\n")[-3:])
    alone = _ZWZ_ALONE.fullmatch(text.strip())
    letter = (alone[1] or alone[2]).upper() if alone else first_zwz_letter(text)
    return Answer(text=text, letter=letter or None, rule="zwz")


def first_zwz_letter(text: str) -> str:
    """Return the letter that ZwZ's rule takes from an answer; "" for none."""
    return next((match[1] for pattern in _ZWZ_LETTERS if (match := pattern.search(text))), "")


def read_vlmevalkit(reply: str) -> Answer:
    """Read the first answer tag, or else the whole reply, as MME-RealWorld's script does, but for its slips and the
    options' texts."""
    match = _TAGGED.search(reply)
    text = match[1].strip().upper() if match else reply
    letter = read_letter_like_mme(text, _BARE_OPTIONS, _VLMEVALKIT_LEAD_INS)
    return Answer(text=text.strip(), letter=letter, rule="none" if letter is None else "vlmevalkit")


def read_mini_o3(reply: str) -> Answer:
    """Read the last answer tag: a letter alone, or one that begins it as "(B)" or "B."."""
    found = _TAGGED.findall(reply)
    text = found[-1] if found else None
    if text is None:
        return Answer(text=None)
    match = _MINI_O3.match(text)
    letter = (match[1] or match[2]) if match else text.strip()
    return Answer(text=text, letter=letter if letter in LETTERS and len(letter) == 1 else None, rule="mini_o3")


def read_deepeyes(reply: str, options: Sequence[str] = ()) -> Answer:
    """Read the first answer tag, or else the whole reply: the first option that DeepEyes' rule takes for right."""
    _, is_opened, rest = reply.partition("<answer>")
    text = rest.split("</answer>")[0].split("<answer>")[0].strip() if is_opened and "</answer>" in reply else reply
    named = zip(LETTERS, options or [""] * len(LETTERS), strict=False)
    letter = next((letter for letter, option in named if judge_like_deepeyes(text, letter, option)), None)
    return Answer(text=text, letter=letter, rule="deepeyes")


def judge_like_deepeyes(answer: str, letter: str, option: str) -> bool | None:
    """Tell whether an answer is right by DeepEyes' rule; None where the authors ask a judging model.

    A single character has to be the right letter, two with a dot have to hold it, and a longer text has to hold the
    letter, a dot, a blank, and the option.
    """
    if _BOXED in answer:
        answer = answer.split(_BOXED)[1].split("}")[0]
    if len(answer) == 1:
        return answer == letter
    if len(answer) == 2 and "." in answer:
        return letter in answer
    return True if f"{letter}. {option}" in answer else None


def read_lmms_eval(reply: str) -> Answer:
    """Read V* as lmms-eval does: a letter A to D that begins the reply, stands behind "answer", in brackets, before a
    dot or bracket, or between blanks; else the only one of these letters in the reply."""
    text = reply.strip().upper()
    found = next((match for pattern in _LMMS_LETTERS if (match := pattern.search(text))), None)
    letters = re.findall(r"[A-D]", text)
    letter = found[1] if found else letters[0] if len(letters) == 1 else None
    return Answer(text=reply.strip(), letter=letter, rule="none" if letter is None else "lmms_eval")


def read_zoomeye(reply: str) -> Answer:
    """Read HR-Bench as ZoomEye does: a reply of one character as it is, else the first of the letters A to D."""
    text = reply if len(reply) == 1 else next((letter for letter in reply if letter in "ABCD"), "")
    return Answer(text=text, letter=text if text and text in LETTERS else None, rule="zoomeye" if text else "none")


PEERS: Mapping[str, Callable[[str, Sequence[str]], Answer]] = {
    "treevgr": lambda reply, _: read_treevgr(reply),
    "zwz": lambda reply, _: read_zwz(reply),
    "vlmevalkit": lambda reply, _: read_vlmevalkit(reply),
    "mini_o3": lambda reply, _: read_mini_o3(reply),
    "deepeyes": read_deepeyes,
    "lmms_eval": lambda reply, _: read_lmms_eval(reply),
    "zoomeye": lambda reply, _: read_zoomeye(reply),
}
"""The readers by the names of their scorers; they take a reply and the texts of the options."""
