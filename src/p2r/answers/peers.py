"""Read a reply as the scorers of other systems do, mistakes included, to compare with the numbers that they print.

Sources: Haochen-Wang409/TreeVGR, inference_treebench.py (TreeBench); inclusionAI/Zooming-without-Zooming,
mm-eval/judge_qwenlm.py; open-compass/VLMEvalKit, vlmeval/dataset/utils/multiple_choice.py (MME-RealWorld, TreeBench);
Mini-o3/Mini-o3, verl/utils/reward_score/general_qa_tool_mc.py (V* and other choices). What ZwZ's rule denies, its
authors then ask a judging model about; that is not repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

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


PEERS: Mapping[str, Callable[[str], Answer]] = {
    "treevgr": read_treevgr,
    "zwz": read_zwz,
    "vlmevalkit": read_vlmevalkit,
    "mini_o3": read_mini_o3,
}
"""The readers by the names of their scorers."""
