"""Read the answer in a reply, with the rule and the span that found it.

`robust` is the scorer of every evaluation and of training. The others repeat published scorers, mistakes included, so
that results can be compared with published numbers: `release`, `mme_official`, and those of other systems (`peers`).
All of them read the same stored replies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from p2r.answers.mme_official import read_mme_official
from p2r.answers.peers import PEERS
from p2r.answers.release import read_release
from p2r.answers.robust import read_robust
from p2r.types import Answer, AnswerForm, FinishReason, replace_surrogates

__all__ = [
    "OWN_SCORERS",
    "PEER_SCORERS",
    "Scorer",
    "extract_answer",
    "read_mme_official",
    "read_release",
    "read_robust",
]

Scorer = Literal[
    "robust", "release", "mme_official", "treevgr", "zwz", "vlmevalkit", "mini_o3", "deepeyes", "lmms_eval", "zoomeye"
]

OWN_SCORERS: Mapping[str, tuple[Scorer, ...]] = {"treebench": ("treevgr", "vlmevalkit"), "zoombench": ("zwz",)}
"""Published scorers of a benchmark beside `release`, by its name; those of MME-RealWorld go by its aggregation."""
_OF_HRBENCH: tuple[Scorer, ...] = ("zoomeye", "mini_o3")
_OF_MME: tuple[Scorer, ...] = ("vlmevalkit", "mini_o3")
PEER_SCORERS: Mapping[str, tuple[Scorer, ...]] = {
    "vstar": ("deepeyes", "lmms_eval", "mini_o3"),
    "hrbench_4k": _OF_HRBENCH,
    "hrbench_8k": _OF_HRBENCH,
    "mme_realworld": _OF_MME,
    "mme_realworld_lite": _OF_MME,
    "mme_realworld_cn": _OF_MME,
}
"""Scorers by which other systems read a benchmark that is not theirs, by its name."""


def extract_answer(
    reply: str,
    form: AnswerForm,
    options: Sequence[str] = (),
    *,
    scorer: Scorer = "robust",
    finish_reason: FinishReason = "stop",
) -> Answer:
    """Read the answer in a reply. No text makes it fail; an answer that only a guess could read is rule "none".

    Args:
        reply: a reasoner's reply.
        form: the form that was asked for; letters are read only for a choice.
        options: texts without letters.
        scorer: "release" is the authors' evaluation of tagged replies with the letters A-D; `read_release` has its
            other modes. "mme_official" is MME-RealWorld's own script, which only knows choices: other forms are read
            by "robust". The names of other systems (see `peers`) read choices as their scorers do, "zwz" other
            forms as well.
        finish_reason: "length" for a reply that was cut off; "robust" then reads only what is called the answer.
    """
    reply = replace_surrogates(reply)
    if scorer == "release":
        return read_release(reply, letters="ABCD" if form == "choice" else "")
    if scorer == "mme_official" and form == "choice":
        return read_mme_official(reply, options)
    if scorer in PEERS and form == "choice":
        return PEERS[scorer](reply, options)
    if scorer == "zwz":
        return PEERS[scorer](reply, options).model_copy(update={"letter": None})
    return read_robust(reply, form, options, finish_reason=finish_reason)
