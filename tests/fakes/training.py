"""A policy and a partner that say what a test tells them to, and a recipe for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from p2r.config import Phase, PhaseKind, Recipe, parse_recipe
from p2r.dialogue import Decoding, ModelProfile, Prompt
from p2r.errors import EndpointError, P2RError
from p2r.images.load import MemoryImage
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.profiles import PROFILES
from p2r.prompts import load_prompt_set
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.types import Completion, Sample

PROMPTS = load_prompt_set("release")
BOX = '[{"bbox_2d": [100, 200, 300, 400], "label": "sail"}]'
SAME_BOX = '[{"bbox_2d": [100, 200, 300, 400], "label": "the sail"}]'
OTHER_BOX = '[{"bbox_2d": [500, 500, 600, 600], "label": "sail"}]'
TWICE = '[{"bbox_2d": [100, 200, 300, 400], "label": "a"}, {"bbox_2d": [100, 200, 300, 400], "label": "b"}]'
UNLABELLED = '[{"bbox_2d": [100, 200, 300, 400]}]'
RIGHT = "<think>An anchor.</think><answer>B</answer>"
WRONG = "<think>A star.</think><answer>A</answer>"

Say = Callable[[Prompt, int], str]


@dataclass
class CountingImage:
    """An image that counts how often it is decoded; the first `num_faults` times it fails."""

    uri: str = "boat.png"
    num_loads: int = 0
    fault: P2RError | None = None
    num_faults: int = 0
    wh: tuple[int, int] = (640, 480)

    def load(self) -> Image.Image:
        self.num_loads += 1
        if self.fault and self.num_loads <= self.num_faults:
            raise self.fault
        return MemoryImage(Image.new("RGB", self.wh, "white")).load()

    def read_size(self) -> tuple[int, int]:
        return self.wh


def make_sample(name: str = "s1", **changes: object) -> Sample:
    fields: dict[str, object] = {
        "id": name,
        "image": CountingImage(f"{name}.png"),
        "question": "What is on the sail?",
        "options": ("a star", "an anchor"),
        "answer_form": "choice",
        "target": "B",
    }
    return Sample(**{**fields, **changes})  # type: ignore[arg-type]


@dataclass
class FakeActor:
    """Says `say(prompt, seed)`. Tokens are bytes; 0 ends a reply."""

    say: Say
    name: str = "policy"
    profile: ModelProfile = PROFILES["qwen3_vl"]
    seeds: list[list[int]] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    encoded: dict[int, Prompt] = field(default_factory=dict)

    def encode(self, prompt: Prompt) -> EncodedPrompt:
        self.prompts.append(prompt)
        encoded = EncodedPrompt((1, 2, 3), (), (), (7,) * len(prompt.images))
        self.encoded[id(encoded)] = prompt
        return encoded

    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token for token in token_ids if token).decode()

    def sample(
        self,
        wanted: Iterable[Wanted],
        decoding: Decoding,
        num_at_once: int,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[int, list[Generated]]]:
        for place, one in enumerate(wanted):
            self.seeds.append(list(one.seeds))
            prompt = self.encoded[id(one.prompt)]
            yield place, [self._grow(self.say(prompt, seed), decoding) for seed in one.seeds]

    def _grow(self, text: str, decoding: Decoding) -> Generated:
        tokens = (*text.encode(), 0)
        return Generated(tokens[: decoding.max_new_tokens], len(tokens) <= decoding.max_new_tokens)


def in_turn(*replies: str) -> Say:
    """The replies one after the other, whatever is asked."""
    left = [*replies]

    def say(prompt: Prompt, seed: int) -> str:
        left.append(left.pop(0))
        return left[-1]

    return say


@dataclass
class BatchScript:
    """A local model that replies `say(prompt)`, and remembers its batches."""

    say: Callable[[Prompt], str | P2RError]
    name: str = "frozen"
    profile: ModelProfile = PROFILES["qwen3_vl"]
    batches: list[list[str]] = field(default_factory=list)

    def complete_all(
        self, prompts: Sequence[Prompt], decoding: Decoding, abandoned: Callable[[], bool] = lambda: False
    ) -> list[Completion | P2RError]:
        self.batches.append([prompt.text for prompt in prompts])
        return [self._reply(self.say(prompt)) for prompt in prompts]

    @property
    def num_calls(self) -> int:
        return sum(map(len, self.batches))

    def _reply(self, said: str | P2RError) -> Completion | P2RError:
        return said if isinstance(said, P2RError) else Completion(text=said, finish_reason="stop", model=self.name)


def dead(prompt: Prompt) -> P2RError:
    return EndpointError("the server has gone")


def make_recipe(changes: Sequence[str] = (), **tables: Mapping[str, object]) -> Recipe:
    base: dict[str, object] = {"out": str(Path("unused")), "data": {"num_rows": 8}, **tables}
    return parse_recipe(base, ["rollout.group_size=4", "rollout.prompts_per_step=2", *changes])


def make_phase(kind: PhaseKind = "perceiver", index: int = 0, recipe: Recipe | None = None) -> Phase:
    """A phase with the settings of `recipe`, by default those of `make_recipe`."""
    return (recipe or make_recipe()).phases()[0].model_copy(update={"index": index, "kind": kind, "steps": 3})
