"""Prompts that are read into slots whose groups have ended, beside all of them at once; and steps of fixed shapes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from p2r.dialogue import Decoding  # noqa: E402
from p2r.models.local.encoding import EncodedPrompt  # noqa: E402
from p2r.models.local.engine import Abandoned, Engine  # noqa: E402
from p2r.models.local.model import LocalModel  # noqa: E402
from p2r.models.local.sampling import Chosen  # noqa: E402
from p2r.training.engines.local import generate, group_cache  # noqa: E402
from p2r.training.engines.local.generate import FrozenEngine, Generated, Wanted, generate_groups  # noqa: E402
from p2r.training.engines.local.group_cache import GroupCache  # noqa: E402
from p2r.training.engines.local.slots import Slots, can_replay  # noqa: E402
from tests.fakes.tiny_policy import Family, draw_groups, make_engine, make_model, make_prompt  # noqa: E402

FAMILIES: tuple[Family, ...] = ("qwen3_vl", "qwen2_5_vl")
WARM = Decoding(max_new_tokens=30, temperature=1.3)
PLAIN = (1, 2, 0, 3, 0, 2, 1, 0)  # images of each prompt
TEXTS = (5, 31, 2, 9, 60, 14, 3, 22)
SEEDS = [[100 * p + g for g in range(4)] for p in range(len(TEXTS))]


def make_prompts(family: Family) -> list[EncodedPrompt]:
    """Of all lengths, with images and without."""
    return [
        make_prompt([(2, 2 + number)] * number, num_text=num_text, seed=place, family=family)
        for place, (number, num_text) in enumerate(zip(PLAIN, TEXTS, strict=True))
    ]


@pytest.fixture(scope="module", params=FAMILIES)
def given(request: pytest.FixtureRequest) -> tuple[Engine, list[EncodedPrompt]]:
    """An engine that leaves the longest prompts fewer tokens than `WARM` allows."""
    prompts = make_prompts(request.param)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    return replace(make_engine(make_model(request.param), request.param), max_positions=longest + 9), prompts


def assert_same(found: Sequence[Sequence[Generated]], expected: Sequence[Sequence[Generated]]) -> None:
    """Tokens to the last one, log-probs to rounding."""
    assert len(found) == len(expected)
    for one, other in zip((one for row in found for one in row), (one for row in expected for one in row), strict=True):
        assert (one.token_ids, one.ended) == (other.token_ids, other.ended)
        assert one.logprobs == pytest.approx(other.logprobs, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("num_at_once", [1, 2, 3, 7])
@pytest.mark.parametrize("decoding", [WARM, WARM.model_copy(update={"top_p": 0.9, "repetition_penalty": 1.2})])
def test_replies_do_not_depend_on_the_number_of_slots(
    given: tuple[Engine, list[EncodedPrompt]], decoding: Decoding, num_at_once: int, fixed: bool
) -> None:
    engine, prompts = given
    at_once = draw_groups(engine, prompts, decoding, SEEDS)
    found = draw_groups(engine, prompts, decoding, SEEDS, num_at_once=num_at_once, fixed_shapes=fixed)
    assert_same(found, at_once)
    lengths = [{len(one.token_ids) for one in row} for row in at_once]
    assert {one.ended for row in at_once for one in row} == {True, False}
    assert min(map(min, lengths)) < 5 and max(map(max, lengths)) > 26 and max(lengths[4]) <= 9


def test_a_waiting_prompt_is_read_as_soon_as_a_slot_is_free(given: tuple[Engine, list[EncodedPrompt]]) -> None:
    """Beside a plain count: each slot takes the next prompt in the step after its group's last token."""
    engine, prompts = given
    groups = draw_groups(engine, prompts, WARM, SEEDS)
    longest = [max(len(one.token_ids) for one in row) for row in groups]
    free_at, begun = [0, 0, 0], []
    for length in longest:
        slot = free_at.index(min(free_at))
        begun.append(free_at[slot])
        free_at[slot] += length - 1  # its first token comes with the prompt
    steps: list[int] = []
    read: list[int] = []

    def note(_: object, args: tuple[Any, ...]) -> None:
        if args[0].shape[0] > 1 or args[0].shape[1] <= 4:
            steps.append(args[0].shape[0] * args[0].shape[1])
        else:
            read.append(len(steps))

    hook = engine.model.model.language_model.layers[0].register_forward_pre_hook(note)
    try:
        draw_groups(engine, prompts, WARM, SEEDS, num_at_once=3)
    finally:
        hook.remove()
    assert read == sorted({*begun})
    assert len(steps) == max(free_at)
    assert set(steps[: begun[-1]]) == {12}  # full, until the last prompt has been read


def test_groups_are_handed_over_when_they_end_and_prompts_taken_when_there_is_a_slot(
    given: tuple[Engine, list[EncodedPrompt]],
) -> None:
    engine, prompts = given
    num_taken = 0

    def want() -> Iterator[Wanted]:
        nonlocal num_taken
        for wanted in map(Wanted, prompts, SEEDS):
            num_taken += 1
            yield wanted

    ended: list[int] = []
    for place, _ in generate_groups(engine, want(), WARM, 2):
        assert place < num_taken <= len(ended) + 3  # two in slots, and one that narrower steps had to know of
        assert not torch.is_inference_mode_enabled()
        ended.append(place)
    assert sorted(ended) == [*range(8)] != ended


def test_nothing_wanted_is_nothing_drawn(given: tuple[Engine, list[EncodedPrompt]]) -> None:
    assert [*generate_groups(given[0], [], WARM, 4)] == []


def test_groups_are_left_while_a_later_prompt_is_read(given: tuple[Engine, list[EncodedPrompt]]) -> None:
    engine, prompts = given
    reading: list[int] = []
    hook = engine.model.model.visual.blocks[0].register_forward_pre_hook(lambda *_: reading.append(1))
    try:
        with pytest.raises(Abandoned):
            draw_groups(engine, prompts, WARM, SEEDS, lambda: len(reading) > 2, num_at_once=2)
    finally:
        hook.remove()
    assert len(reading) == 3 and engine.model.training


def test_a_cache_grows_for_a_longer_prompt(
    given: tuple[Engine, list[EncodedPrompt]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, prompts = given
    expected = draw_groups(engine, prompts, WARM, SEEDS)
    monkeypatch.setattr(group_cache, "STEPS_AHEAD", 2)
    for fixed in (False, True):
        ordered = sorted(range(8), key=lambda place: len(prompts[place].token_ids))
        found = draw_groups(
            engine,
            [prompts[place] for place in ordered],
            WARM,
            [SEEDS[place] for place in ordered],
            num_at_once=2,
            fixed_shapes=fixed,
        )
        assert_same(found, [expected[place] for place in ordered])


def test_a_cache_that_grows_holds_one_layer_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(make_model())
    prompts = [make_prompt([], num_text=4), make_prompt([], num_text=40)]
    before, most = list[weakref.ref[Any]](), 0
    add_room = GroupCache._with_room  # pyright: ignore[reportPrivateUsage]

    def add_room_watched(cache: GroupCache, states: torch.Tensor) -> torch.Tensor:
        nonlocal most
        grown = add_room(cache, states)
        before.append(weakref.ref(states))
        most = max(most, sum(each() is not None for each in before))
        return grown

    monkeypatch.setattr(GroupCache, "_with_room", add_room_watched)
    draw_groups(engine, prompts, Decoding(max_new_tokens=3), SEEDS[:2], num_at_once=1, fixed_shapes=True)
    assert len(before) == 6 and most == 1  # keys and values of three layers


class Script:
    """An encoder's place."""

    def __init__(self, prompts: Sequence[EncodedPrompt]) -> None:
        self._prompts = iter(prompts)

    def encode(self, prompt: object) -> EncodedPrompt:
        return next(self._prompts)

    def decode(self, token_ids: Sequence[int], stop: Sequence[str] = ()) -> str:
        return " ".join(map(str, token_ids))

    def first_ids(self, words: Sequence[str]) -> list[int]:
        return []

    def find_stops(self, stop: Sequence[str]) -> None:
        return None


@pytest.mark.parametrize("most", [8, 3, 1])
def test_the_frozen_role_refills_and_takes_fewer_slots_when_memory_is_full(
    given: tuple[Engine, list[EncodedPrompt]], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, prompts = given
    greedy = Decoding(max_new_tokens=12)
    alone = [engine.generate([prompt], greedy)[0] for prompt in prompts] if engine.model.eval() else []
    tried: list[int] = []

    class Small(Slots):
        """A device on which `most` slots have room."""

        def __init__(
            self, engine: Engine, num_slots: int, num_rollouts: int, decoding: Decoding, *, keep: bool, fixed: bool
        ) -> None:
            tried.append(num_slots)
            super().__init__(engine, num_slots, num_rollouts, decoding, keep=keep, fixed=fixed)

        def advance(self) -> Chosen:
            if self.shape[0] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().advance()

    monkeypatch.setattr(generate, "Slots", Small)
    frozen = FrozenEngine.of(engine, engine.model)
    profile: Any = SimpleNamespace()
    encoder: Any = Script(prompts)
    model = LocalModel("frozen", profile, encoder, frozen, batch_size=5)
    replies = model.complete_all([SimpleNamespace()] * len(prompts), greedy)  # type: ignore[list-item]
    engine.model.train()
    assert [reply.text for reply in replies] == [" ".join(map(str, one.token_ids)) for one in alone]  # type: ignore[union-attr]
    assert tried == {8: [5], 3: [5, 3], 1: [5, 3, 2, 1]}[most]


class Watching(TorchDispatchMode):
    """Notes what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., object], types: object, args: Sequence[object] = (), kwargs: object = None
    ) -> object:
        self.operations.append(str(func))
        return func(*args, **cast("dict[str, object]", kwargs or {}))


class Recorded(Slots):
    """Records the first step, and replays it ever after on the same memory, as a GPU would."""

    num_recorded = num_replayed = 0

    def step(self) -> Chosen:
        memory = find_tensors(self)
        addresses = {name: (tensor.data_ptr(), tensor.shape) for name, tensor in memory.items()}
        if getattr(self, "addresses", None) != addresses:
            before = {name: tensor.clone() for name, tensor in memory.items()}
            with Watching() as watching:
                super().step()
            for name, tensor in memory.items():
                tensor.copy_(before[name])
            assert not {"aten._local_scalar_dense.default", "aten.nonzero.default"} & {*watching.operations}
            # A number of the host, put at places on the device, would be copied there: that cannot be recorded.
            assert ("aten.lift_fresh.default", "aten.index_put_.default") not in pairwise(watching.operations)
            step = super().step
            self.program = make_fx(lambda *_: tuple(step()))(*memory.values())
            for name, tensor in memory.items():
                tensor.copy_(before[name])
            self.addresses = addresses
            Recorded.num_recorded += 1
        Recorded.num_replayed += 1
        return Chosen(*self.program(*memory.values()))


def find_tensors(thing: object, path: str = "") -> dict[str, Any]:
    """The tensors of slots that a step reads and writes, by name; what it makes anew each time is left out."""
    found: dict[str, Any] = {}
    for name, value in vars(thing).items():
        for place, one in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(one, torch.Tensor) and name != "_places_PG":
                found[f"{path}{name}{place}"] = one
        if name in ("_cache", "_sampler"):
            found.update(find_tensors(value, f"{name}."))
    return found


@pytest.mark.parametrize("num_at_once", [8, 3])
@pytest.mark.parametrize("decoding", [WARM, WARM.model_copy(update={"top_p": 0.9, "repetition_penalty": 1.2})])
def test_one_recorded_step_can_be_replayed_for_all_others(
    given: tuple[Engine, list[EncodedPrompt]], num_at_once: int, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, prompts = given
    ordered = sorted(range(8), key=lambda place: -len(prompts[place].token_ids))  # the first ones need the most room
    longest_first = [prompts[place] for place in ordered], decoding, [SEEDS[place] for place in ordered]
    expected = draw_groups(engine, *longest_first)
    monkeypatch.setattr(generate, "Slots", Recorded)
    Recorded.num_recorded = Recorded.num_replayed = 0
    found = draw_groups(engine, *longest_first, num_at_once=num_at_once, fixed_shapes=True)
    assert_same(found, expected)
    assert Recorded.num_replayed > 25
    assert Recorded.num_recorded == 1


@pytest.mark.parametrize(
    ("device", "fixed", "split", "replayed"),
    [
        ("cuda", True, False, True),
        ("cuda", False, False, False),
        ("cuda", True, True, False),
        ("cpu", True, False, False),
    ],
)
def test_steps_are_replayed_where_all_are_the_same_on_one_gpu(
    device: str, fixed: bool, split: bool, replayed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = SimpleNamespace(device=torch.device(device))
    monkeypatch.setattr("p2r.training.engines.local.slots.is_split", lambda _: split)
    assert can_replay(model, fixed=fixed) is replayed


def test_shapes_are_fixed_where_the_device_replays_steps() -> None:
    """A GPU's default, told by its name alone."""
    asked: list[bool] = []

    class Stop(Exception):
        pass

    def note(*_: object, fixed: bool, **__: object) -> None:
        asked.append(fixed)
        raise Stop

    for device in ("cuda", "cpu"):
        model: Any = SimpleNamespace(device=torch.device(device), training=False, eval=bool, train=bool)
        engine: Any = SimpleNamespace(model=model)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
            patch.setattr(generate, "Slots", note)
            draw_groups(engine, make_prompts("qwen3_vl"), WARM, SEEDS)
    assert asked == [True, False]
