"""Find out whether a server continues a reply that was begun, or takes the beginning for a whole turn.

Many servers pass over the fields that say so (`continue_final_message`), and then the model begins another turn. The
tokens that a server counts tell: behind one letter, the end of a turn and the beginning of the next would add more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from p2r.dialogue import Prompt, Turn
from p2r.errors import EndpointError
from p2r.models.server.errors import BEGUN_HINT

ASKED = Prompt("reasoner", "", "a", (), "")
BEGUN = replace(ASKED, later=(Turn("assistant", ("a",)),))
MOST_ADDED = 1
"""The most tokens that one begun letter adds. The end of a turn and the beginning of the next take four or more."""
UNKNOWN = {"begun": "does not count a prompt's tokens, so whether it continues a reply that was begun is not known"}


async def check_begun(
    server: str, count: Callable[[Prompt], Awaitable[int | None]], tell: Callable[[Mapping[str, str]], object]
) -> None:
    """Make sure that a server continues a begun reply.

    Args:
        count: the tokens that the server counts for a prompt; None where it does not tell.
        tell: told where that cannot be found out.

    Raises:
        EndpointError: it does not.
    """
    asked, begun = await count(ASKED), await count(BEGUN)
    if asked is None or begun is None:
        tell(UNKNOWN)
    elif begun > asked + MOST_ADDED:
        raise EndpointError(f"{server} takes the beginning of a reply for a whole one", hint=BEGUN_HINT)
