"""What our loops take from verl: a base class, an output, and a decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

registered: dict[str, type] = {}


def register(name: str) -> Callable[[type], type]:
    def note(kind: type) -> type:
        registered[name] = kind
        return kind

    return note


class AgentLoopBase:
    """server_manager: the client that samples. data_config: the settings `data` of verl."""

    def __init__(self, server_manager: object, data_config: SimpleNamespace) -> None:
        self.server_manager, self.data_config = server_manager, data_config


@dataclass
class AgentLoopOutput:
    """What verl wants to know of a rollout: it has defaults, and fails later without some of them."""

    prompt_ids: list[int]
    response_ids: list[int]
    response_mask: list[int]
    response_logprobs: list[float]
    multi_modal_data: dict[str, list[object]]
    reward_score: float | None
    num_turns: int
    metrics: dict[str, float]
    extra_fields: dict[str, object]
