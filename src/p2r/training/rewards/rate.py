"""Ask reward functions what they think of sampled replies. What one cannot rate has no rating; it is never a zero."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
import traceback
import warnings
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

from p2r.errors import P2RWarning, count_nouns, excerpt
from p2r.loop import run_apart
from p2r.training.rewards.find import OwnTerm
from p2r.training.rewards.rated import Rated

AT_ONCE = 32
"""Calls of one `async` function that are under way at a time."""
_MOST_CHARS = 200

Call: TypeAlias = Mapping[str, object]
"""The arguments of a call by name."""


@dataclass(frozen=True, slots=True)
class Unrated:
    """The reason why a function could not rate a reply, in words.

    message: what an exception said. It may quote the reply, so it is no part of the reason, which is counted.
    """

    text: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Rating:
    """The ratings of one reply: a number by term, and by term why there is none."""

    values: dict[str, float] = field(default_factory=dict[str, float])
    faults: dict[str, str] = field(default_factory=dict[str, str])


class Rater:
    """Asks the functions of a phase. The same one is never called twice at a time, unless it is `async`."""

    def __init__(self, terms: Sequence[OwnTerm]) -> None:
        self._terms = terms
        self._calling = {term.name: asyncio.Lock() for term in terms}
        self._told: set[str] = set()

    async def rate(self, replies: Sequence[Rated]) -> list[Rating]:
        """Ask all functions about all replies; returns a rating for each reply."""
        ratings = [Rating() for _ in replies]
        if not replies:
            return ratings
        columns = await asyncio.gather(*(self._ask(term, replies) for term in self._terms))
        for term, column in zip(self._terms, columns, strict=True):
            for rating, said in zip(ratings, column, strict=True):
                found = said if isinstance(said, Unrated) else _read_number(said)
                if isinstance(found, Unrated):
                    rating.faults[term.name] = cause = f"the reward term {term.name} {found.text}"
                    self._tell(cause, found.message)
                else:
                    rating.values[term.name] = found
        return ratings

    def _tell(self, cause: str, message: str) -> None:
        """Say once what an exception said."""
        if message and cause not in self._told:
            self._told.add(cause)
            warnings.warn(f"{cause}: {message}", P2RWarning, stacklevel=2)

    async def _ask(self, term: OwnTerm, replies: Sequence[Rated]) -> list[object]:
        """Return what a function says of each reply."""
        calls = [{name: getattr(reply, name) for name in term.parameters} for reply in replies]
        if not term.is_batched:
            return await self._call_all(term, calls)
        (said,) = await self._call_all(term, [{name: [each[name] for each in calls] for name in term.parameters}])
        return _spread(said, len(replies))

    async def _call_all(self, term: OwnTerm, calls: Sequence[Call]) -> list[object]:
        """Return the result of each call. Functions run in a thread, one call after the other."""
        left = threading.Event()
        async with self._calling[term.name]:
            try:  # a call may take long, and nobody waits for it once the run is asked to stop
                results = await run_apart(lambda: [_try_call(term, call) for call in calls if not left.is_set()])
            finally:
                left.set()
        slots = asyncio.Semaphore(AT_ONCE)

        async def finish(result: object) -> object:
            if not inspect.isawaitable(result):
                return result
            async with slots:
                return await _try_await(cast("Awaitable[object]", result))

        return list(await asyncio.gather(*map(finish, results)))


def _try_call(term: OwnTerm, call: Call) -> object:
    try:
        return term.function(**call)
    except Exception as error:
        return _explain(error)


async def _try_await(result: Awaitable[object]) -> object:
    try:
        return await result
    except Exception as error:
        return _explain(error)


def _explain(error: Exception) -> Unrated:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"in line {last.lineno} of {Path(last.filename).name}"
    return Unrated(f"raised {type(error).__name__} {where}", " ".join(str(error).split())[:_MOST_CHARS])


def _spread(said: object, num: int) -> list[object]:
    """Return what a batched function says of each reply."""
    if isinstance(said, Unrated):
        return [said] * num
    values = cast("object", getattr(said, "tolist", lambda: said)())  # an array
    if not isinstance(values, (list, tuple)):
        return [Unrated(f"returned {excerpt(said)} and not a list")] * num
    items = list(cast("Sequence[object]", values))
    if len(items) != num:
        return [
            Unrated(f"returned {count_nouns(len(items), 'value')} for {count_nouns(num, 'reply', 'replies')}")
        ] * num
    return items


def _read_number(value: object) -> float | Unrated:
    if value is None:
        return Unrated("cannot tell")
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        return Unrated(f"returned {excerpt(value)}, which is not a number")
    try:
        number = float(cast("float", value))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return Unrated(f"returned {excerpt(value)}, which is not a number")
    return number if math.isfinite(number) else Unrated(f"returned {number}, which is not finite")
