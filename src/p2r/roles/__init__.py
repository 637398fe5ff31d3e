"""The two roles: perceivers turn a question into boxes, reasoners turn evidence into a reply.

Paper: section 3.2, B.1. Direct answering, oracle, random and fixed boxes, a search and a chat with a tool are roles
like any other, so the walk has no modes. A role sizes images to its model's pixel budget itself, so that no later
resize by a processor or a server changes them.
"""

from p2r.roles.base import (
    DEFAULT_DECODING,
    RELEASE_DECODING,
    DecodingPreset,
    Perceiver,
    Reasoner,
    draw_replies,
    hash_roles,
    limit_replies,
)
from p2r.roles.given import FixedPerceiver, GivenPerceiver, NoPerceiver, OraclePerceiver, RandomPerceiver
from p2r.roles.model import (
    EvidenceReasoner,
    ModelPerceiver,
    PlainReasoner,
    perceiver_prompt,
    read_perception,
    reasoner_prompt,
)
from p2r.roles.tools import ToolReasoner
from p2r.roles.zoom import Search, ZoomPerceiver

__all__ = [
    "DEFAULT_DECODING",
    "RELEASE_DECODING",
    "DecodingPreset",
    "EvidenceReasoner",
    "FixedPerceiver",
    "GivenPerceiver",
    "ModelPerceiver",
    "NoPerceiver",
    "OraclePerceiver",
    "Perceiver",
    "PlainReasoner",
    "RandomPerceiver",
    "Reasoner",
    "Search",
    "ToolReasoner",
    "ZoomPerceiver",
    "draw_replies",
    "hash_roles",
    "limit_replies",
    "perceiver_prompt",
    "read_perception",
    "reasoner_prompt",
]
