"""A perceiver phase in TRL: the same prompts and rewards as ours, failures masked, and a checkpoint that p2r loads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.fakes import stock_torchvision  # before transformers

# isort: split
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, AutoTokenizer

import p2r
from p2r.config import Recipe, parse_recipe
from p2r.dialogue import Decoding
from p2r.errors import ConfigError, DataError, ModelError, P2RError, TooManyErrors
from p2r.models.load import find_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.model import LocalModel
from p2r.prompts import load_prompt_set
from p2r.training.engines.base import EngineActor
from p2r.training.engines.local.generate import Generated, Wanted
from p2r.training.groups import Asked, SampledReply
from p2r.training.lockstep import LockstepPartner
from p2r.training.rollout import Roller, read_reply
from recipes import trl_perceiver_phase
from recipes.trl_perceiver_phase import PerceiverPhase, choose_phase, main, train
from tests.fakes.endpoint_server import completion, refusal, serve

TRL = pytest.mark.skipif(
    not (find_spec("trl") and stock_torchvision.HAS_TORCHVISION), reason="TRL needs trl==1.16.0 and torchvision"
)
BOX = '[{{"bbox_2d": [{0}, {0}, 300, 300], "label": "star"}}]'
TWICE = '[{"bbox_2d": [10, 10, 300, 300], "label": "a"}, {"bbox_2d": [10, 10, 300, 300], "label": "b"}]'
"""Boxes that overlap, which the set "release" vetoes."""
Rewards = list[tuple[list[int], list[list[int]], list[float | None]]]


def make_recipe(out: Path, *changes: str) -> Recipe:
    tables: dict[str, object] = {
        "out": str(out),
        "schedule": [{"role": "perceiver", "steps": 2, "lr": 1e-4}],
        "model": {"source": "nano-base", "device": "cpu", "gradient_checkpointing": False},
        "data": {"source": "needles", "num_rows": 8},
        "rollout": {"group_size": 4, "prompts_per_step": 4, "max_new_tokens": {"perceiver": 64, "reasoner": 32}},
        "optimizer": {"micro_batch_groups": 2},
        "partner": {"max_new_tokens": 32},
    }
    return parse_recipe(tables, changes)


@pytest.fixture
def encode() -> Callable[[str], list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(find_checkpoint("nano-base").folder)
    return lambda text: [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]


@pytest.fixture
def rewards(monkeypatch: pytest.MonkeyPatch) -> Rewards:
    """What TRL asks for and gets."""
    seen: Rewards = []
    ask = PerceiverPhase.reward

    async def reward(
        self: PerceiverPhase, row: list[int], completion_ids: list[list[int]], **others: object
    ) -> list[float | None]:
        seen.append((row, completion_ids, found := await ask(self, row, completion_ids, **others)))
        return found

    monkeypatch.setattr(PerceiverPhase, "reward", reward)
    return seen


@TRL
@pytest.mark.slow
def test_two_steps_are_trained_with_our_rewards_and_p2r_loads_the_result(
    tmp_path: Path, rewards: Rewards, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(tmp_path / "run")
    path = tmp_path / "recipe.json"
    path.write_text(recipe.model_dump_json())
    monkeypatch.setattr(sys, "argv", ["trl_perceiver_phase", str(path), "--set", "seed=1"])
    main()
    out = Path(capsys.readouterr().out.splitlines()[-1])
    assert out == tmp_path / "run" / "0-perceiver"
    before, after = (load_file(folder / "model.safetensors") for folder in (find_checkpoint("nano-base").folder, out))
    assert before.keys() == after.keys()
    assert sum(not torch.equal(before[name], after[name]) for name in before) > 100
    asked = p2r.evaluate("needles", str(out), limit=2, device="cpu").traces.values()
    assert [trace.failure for trace in asked] == [None, None]

    assert [len(found) for _, _, found in rewards] == [16, 16]
    for row, completion_ids, found in rewards:
        assert row == sorted(row, key=row.index) and len({*row}) == 4  # four whole groups
        assert found == reward_by_our_own_trainer(recipe, row, completion_ids)
    assert len({reward for *_, found in rewards for reward in found}) > 1


def reward_by_our_own_trainer(
    recipe: Recipe, row: Sequence[int], completion_ids: Sequence[list[int]]
) -> list[float | None]:
    """The rewards of a step of our trainer, whose policy says the same."""
    (phase,), checkpoint = recipe.phases(), find_checkpoint("nano-base")
    ours = PerceiverPhase(recipe, phase)
    encoder = PromptEncoder(checkpoint)
    size = phase.rollout.group_size
    groups = [
        [Generated(tuple(ids), ids[-1] in encoder.end_token_ids) for ids in completion_ids[place : place + size]]
        for place in range(0, len(row), size)
    ]

    class Repeating(EngineActor):
        def sample(
            self, wanted: Iterable[Wanted], decoding: Decoding, num_at_once: int, abandoned: Callable[[], bool]
        ) -> Iterator[tuple[int, list[Generated]]]:
            for place, _ in enumerate(wanted):
                yield place, groups[place]

    model = LocalModel.load(checkpoint, max_pixels=ours.profile.budget.max_pixels, device="cpu", batch_size=32)
    actor = Repeating("policy", ours.profile, encoder, model._engine)
    roller = Roller(recipe, phase, actor, LockstepPartner(model), load_prompt_set("release"))
    rows = [ours.samples[number] for number in dict.fromkeys(row)]
    rolled = p2r.loop.run_blocking(roller.roll_out(rows, 0))
    return [rollout.reward for group in rolled.groups for rollout in group.rollouts]


@TRL
@pytest.mark.slow
def test_too_many_failures_end_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(refusal(400, "no such model any more"), models=["m"]) as server:
        partner = ["partner.kind=endpoint", f"partner.url={server.url}#m", "partner.max_error_rate=0.5"]
        recipe = make_recipe(tmp_path / "run", *partner, "rollout.group_size=8")
        with pytest.raises(TooManyErrors, match="could not be judged") as caught:
            train(recipe)
    assert caught.value.hint == "remove the cause and start again; or raise partner.max_error_rate"
    assert not (tmp_path / "run" / "0-perceiver").exists()


async def test_a_failure_is_masked_and_never_a_zero(tmp_path: Path, encode: Callable[[str], list[int]]) -> None:
    said = [encode(BOX.format(first)) for first in (10, 50)] + [encode(TWICE), encode(BOX.format(90))]
    with serve(refusal(400, "broken"), models=["m"]) as server:
        partner = ["partner.kind=endpoint", f"partner.url={server.url}#m", "partner.max_error_rate=0.7"]
        recipe = make_recipe(tmp_path, *partner)
        phase = PerceiverPhase(recipe, recipe.phases()[0])
        for _ in range(4):
            assert await phase.reward([5] * 4, said) == [None, None, 0.0, None]  # the veto needs no answer
        with pytest.raises(TooManyErrors, match="15 of the latest 20 rollouts"):
            await phase.reward([5] * 4, said)


async def test_a_reply_without_an_end_token_was_cut_off(
    tmp_path: Path, encode: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    def read(actor: PerceiverPhase, asked: Asked, generated: Generated) -> SampledReply:
        ended.append(generated.ended)
        return read_reply(actor, asked, generated)

    monkeypatch.setattr(trl_perceiver_phase, "read_reply", read)
    with serve(refusal(400, "not asked"), models=["m"]) as server:
        recipe = make_recipe(tmp_path, "partner.kind=endpoint", f"partner.url={server.url}#m")
        phase, whole = PerceiverPhase(recipe, recipe.phases()[0]), encode(TWICE)
        assert await phase.reward([0] * 4, [whole, whole[:-1], whole[:-1], whole]) == [0.0] * 4
        assert server.chats == []
    assert ended == [True, False, False, True]


async def test_right_and_wrong_answers_of_the_frozen_role_are_the_reward(
    tmp_path: Path, encode: Callable[[str], list[int]]
) -> None:
    recipe = make_recipe(tmp_path)
    right = PerceiverPhase(recipe, recipe.phases()[0]).samples[3].target
    answers = [completion(f"<answer>{text}</answer>") for text in (right, "purple")]
    with serve(*answers, models=["m"]) as server:
        recipe = make_recipe(tmp_path, "partner.kind=endpoint", f"partner.url={server.url}#m", "partner.concurrency=1")
        phase = PerceiverPhase(recipe, recipe.phases()[0])
        said = [encode(BOX.format(first)) for first in (10, 10, 50, 90)]
        found = await phase.reward([3] * 4, said)
        assert found[0] == found[1] and sorted({*found[1:]}) == [0.0, 1.0]  # equal boxes are asked about once
        assert len(server.chats) == 3


@TRL
def test_prompts_are_those_of_our_trainer_token_by_token(tmp_path: Path) -> None:
    from trl.data_utils import prepare_multimodal_messages

    recipe = make_recipe(tmp_path)
    phase, folder = PerceiverPhase(recipe, recipe.phases()[0]), find_checkpoint("nano-base").folder
    processor = AutoProcessor.from_pretrained(folder)
    rows = phase.dataset()
    assert len(rows) == 8
    for number in (0, 6):
        row = rows[number]
        assert row["row"] == number
        chat = prepare_multimodal_messages(row["prompt"], images=row["images"])
        taken = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
        assert tuple(taken["input_ids"][0]) == phase._ask(number)[0].encoded.token_ids


MISTAKES: list[tuple[list[str], type[P2RError], str]] = [
    (["schedule=[{role='reasoner',steps=1}]"], ConfigError, "the first phase is 0-reasoner"),
    (["control=joint"], ConfigError, "the first phase is 0-joint"),
    (["model.lora.rank=4"], ConfigError, "model.lora is LoraSettings"),
    (["rollout.dynamic_sampling=true"], ConfigError, "rollout.dynamic_sampling is True"),
    (["loss.resting_kl_coef=0.1"], ConfigError, "loss.resting_kl_coef is 0.1"),
    (["loss.importance_cap=2"], ConfigError, "loss.importance_cap is 2.0"),
    (["advantage.std=population"], ConfigError, "advantage.std is 'population'"),
    (["optimizer.kind=offload"], ConfigError, "optimizer.kind is 'offload'"),
    (["optimizer.mini_batch_prompts=2"], ConfigError, "optimizer.mini_batch_prompts is 2"),
    (["data.difficulty.rule=drop"], ConfigError, "data.difficulty is"),
    (["partner.kind=endpoint", "partner.url=http://x/v1", "partner.launch=serve"], ConfigError, "partner.launch is"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_what_a_phase_in_trl_cannot_have_is_refused(
    tmp_path: Path, changes: list[str], kind: type[P2RError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        choose_phase(make_recipe(tmp_path, *changes))


def test_usual_settings_are_accepted(tmp_path: Path) -> None:
    recipe, phase = choose_phase(make_recipe(tmp_path, "iterations=3", "advantage.std=none"))
    assert recipe.phases() == (phase,) and phase.name == "0-perceiver"


@TRL
@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (["model.source=no/such-folder"], ModelError, "no/such-folder"),
        (["data.source=folder:none.jsonl"], DataError, "there is no file or folder none.jsonl"),
        (["data.num_rows=3"], ConfigError, "3 rows are fewer than one step's 4"),
        (["optimizer.micro_batch_groups=3"], ConfigError, "4 prompts a step cannot be made in passes of 3"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], kind: type[P2RError], message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(kind, match=message):
        train(make_recipe(tmp_path / "run", *changes))
    assert not (tmp_path / "run").exists()


def test_missing_libraries_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl_perceiver_phase, "is_torchvision_available", lambda: False)
    with pytest.raises(ConfigError, match="is not installed") as caught:
        train(make_recipe(tmp_path / "run"))
    assert caught.value.hint == "pip install trl==1.16.0 torchvision"
    monkeypatch.setattr(trl_perceiver_phase, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"TRL.* is not installed"):
        train(make_recipe(tmp_path / "run"))


def test_a_folder_that_has_a_checkpoint_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "0-perceiver").mkdir()
    with pytest.raises(ConfigError, match="0-perceiver exists already"):
        train(make_recipe(tmp_path))
