"""Rows are checked before the first step, counted, and come in an order that can be found again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from p2r.benchmarks.needles import TRAINING_SEEDS
from p2r.config import DataSettings, PerRole, PhaseKind
from p2r.errors import ConfigError, DataError
from p2r.evidence import gather
from p2r.images.budget import FullImage
from p2r.models.checkpoint import open_checkpoint
from p2r.models.headers import read_headers
from p2r.models.local.encoding import PromptEncoder
from p2r.models.nano import CHECKPOINT
from p2r.roles import perceiver_prompt, reasoner_prompt
from p2r.training.engines.local.policy import training_profile
from p2r.training.plan.memory import MemoryPart, count_weights, estimate_memory
from p2r.training.plan.plan import GIB, _describe_memory
from p2r.training.rows.check import TrainingData, count_tokens, load_training_data
from p2r.training.rows.order import RowOrder
from p2r.types import Box
from tests.fakes.training import PROMPTS, CountingImage, make_phase, make_recipe, make_sample

ROLES = ("perceiver", "reasoner")


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(open_checkpoint(CHECKPOINT))


def load(settings: DataSettings, encoder: PromptEncoder) -> TrainingData:
    return load_training_data(settings, ROLES, encoder, training_profile(open_checkpoint(CHECKPOINT), None), PROMPTS)


def write_rows(folder: Path, *rows: dict[str, object], image: str = "a.png") -> Path:
    Image.new("RGB", (640, 480)).save(folder / "a.png")
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"image": image, "question": "What?", **row}) + "\n" for row in rows))
    return path


def test_needles_come_from_seeds_that_are_reserved_for_training(encoder: PromptEncoder) -> None:
    data = load(DataSettings(num_rows=6, seed=3), encoder)
    assert len(data.rows) == 6
    assert all(row.id.startswith(f"needles:{TRAINING_SEEDS + 3}/") for row in data.rows)
    assert set(data.longest_prompt) == set(ROLES)


def test_own_rows_are_read_and_bad_ones_named(tmp_path: Path, encoder: PromptEncoder) -> None:
    path = write_rows(tmp_path, {"target": "a kite", "id": "good"}, {"id": "bare"})
    with pytest.raises(DataError, match="row 'bare' cannot be trained on: it has no right answer") as caught:
        load(DataSettings(source=str(path)), encoder)
    assert "data.skip_bad = 1" in caught.value.hint
    data = load(DataSettings(source=str(path), skip_bad=1), encoder)
    assert [row.id for row in data.rows] == ["good"]
    assert "left out, bare: it has no right answer" in list(data.explain())


def test_a_hint_names_the_field_of_the_row(tmp_path: Path, encoder: PromptEncoder) -> None:
    path = write_rows(tmp_path, {"target": "a kite", "answer_form": "number"})
    with pytest.raises(DataError, match="which is not a number") as caught:
        load(DataSettings(source=str(path)), encoder)
    assert "set the field answer_form to free_form" in caught.value.hint


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"options": ["a", "b"], "target": "C"}, "neither the letter nor the text of an option"),
        ({"answer_form": "number", "target": "several"}, "not a number"),
        ({"answer_form": "number", "target": "10-12"}, "a range and not a number"),
        ({"answer_form": "number", "target": "2023-05-01"}, "a date and not a number"),
        ({"answer_form": "essay", "target": "x"}, "answer_form"),
        ({"image": "none.png", "target": "x"}, "there is no file"),
        ({"target": "x", "question": "Is <|image_pad|> here?"}, "a special token of the model"),
        ({"target": "x", "question": "What?<|im_end|>"}, "holds <.im_end.>"),
    ],
)
def test_rows_that_would_fail_later_are_found_first(
    tmp_path: Path, encoder: PromptEncoder, row: dict[str, object], message: str
) -> None:
    path = write_rows(tmp_path, row)
    with pytest.raises(DataError, match=message):
        load(DataSettings(source=str(path)), encoder)


def test_a_image_that_is_cut_off_is_found_by_decoding(tmp_path: Path, encoder: PromptEncoder) -> None:
    path = write_rows(tmp_path, {"target": "x"}, image="cut.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    assert len(load(DataSettings(source=str(path), check_images="header"), encoder).rows) == 1
    with pytest.raises(DataError, match="broken or cut off"):
        load(DataSettings(source=str(path)), encoder)


def test_a_model_is_not_trained_to_write_pixels_of_the_file() -> None:
    with pytest.raises(ConfigError, match="pixels of the file"):
        training_profile(open_checkpoint(CHECKPOINT), None, "file_pixels")


def load_for(path: Path, encoder: PromptEncoder, **needs: bool) -> TrainingData:
    profile = training_profile(open_checkpoint(CHECKPOINT), None)
    return load_training_data(DataSettings(source=str(path)), ROLES, encoder, profile, PROMPTS, **needs)


def test_a_reward_by_gold_boxes_needs_them_or_that_there_are_none(tmp_path: Path, encoder: PromptEncoder) -> None:
    boxed = {"id": "boxed", "target": "x", "boxes": [[1, 1, 9, 9]], "box_frame": "per_mille"}
    empty, bare = {"id": "empty", "target": "x", "boxes": []}, {"id": "bare", "target": "x"}
    kept = load_for(write_rows(tmp_path, boxed, empty), encoder, needs_gold=True).rows
    assert [(row.id, len(row.gold_boxes), row.nothing_there) for row in kept] == [
        ("boxed", 1, False),
        ("empty", 0, True),
    ]
    with pytest.raises(DataError, match="row 'bare' cannot be trained on: it has no gold boxes") as caught:
        load_for(write_rows(tmp_path, boxed, bare), encoder, needs_gold=True)
    assert '"boxes": []' in caught.value.hint and "data.skip_bad = 1" in caught.value.hint


def test_a_reward_by_key_words_needs_them(tmp_path: Path, encoder: PromptEncoder) -> None:
    named, bare = {"id": "named", "target": "x", "key_word": ["sail"]}, {"id": "bare", "target": "x"}
    assert load_for(write_rows(tmp_path, named), encoder, needs_key_words=True).rows[0].key_words == ("sail",)
    assert len(load_for(write_rows(tmp_path, named, bare), encoder).rows) == 2
    with pytest.raises(DataError, match="row 'bare' cannot be trained on: it has no key words") as caught:
        load_for(write_rows(tmp_path, named, bare), encoder, needs_key_words=True)
    assert '"key_word": ["sail", "star"]' in caught.value.hint and "data.skip_bad = 1" in caught.value.hint


def test_a_reward_without_answers_needs_no_right_answer(tmp_path: Path, encoder: PromptEncoder) -> None:
    path = write_rows(tmp_path, {"id": "bare"}, {"id": "odd", "target": "a few", "answer_form": "number"})
    assert len(load_for(path, encoder, needs_target=False).rows) == 2
    with pytest.raises(DataError, match="it has no right answer"):
        load_for(path, encoder)


def test_rows_that_are_too_long_are_left_out_and_counted(tmp_path: Path, encoder: PromptEncoder) -> None:
    path = write_rows(tmp_path, {"target": "x"}, {"target": "x", "question": "Where is the kite? " * 100})
    data = load(DataSettings(source=str(path), max_prompt_tokens=PerRole(perceiver=400, reasoner=8704)), encoder)
    assert len(data.rows) == 1
    assert "1 left out: the perceiver's prompt can be longer than 400 tokens" in list(data.explain())
    with pytest.raises(DataError, match=r"no row of .* is left to train on"):
        load(DataSettings(source=str(path), max_prompt_tokens=PerRole(perceiver=4, reasoner=8704)), encoder)


@pytest.mark.parametrize("wh", [(1024, 1024), (4000, 700), (300, 200), (2000, 30)])
def test_lengths_are_those_of_the_final_prompts(encoder: PromptEncoder, wh: tuple[int, int]) -> None:
    sample = make_sample(image=CountingImage("x", wh=wh))
    budget = training_profile(open_checkpoint(CHECKPOINT), 200 * 32 * 32).budget
    full_image = FullImage(Image.new("RGB", wh))
    prompt = perceiver_prompt(PROMPTS, sample, full_image, budget)
    assert count_tokens(sample, "perceiver", encoder, budget, PROMPTS) == len(encoder.encode(prompt).token_ids)
    worst = count_tokens(sample, "reasoner", encoder, budget, PROMPTS)
    for corners in [(0, 0, 1000, 1000), (0, 0, 400, 900), (450, 0, 470, 1000), (0, 490, 1000, 495), (5, 5, 9, 9)]:
        box = Box(x1=corners[0], y1=corners[1], x2=corners[2], y2=corners[3])
        prompt = reasoner_prompt(PROMPTS, sample, gather(full_image, [box] * 3), budget)
        assert len(encoder.encode(prompt).token_ids) <= worst


def test_training_looks_at_the_papers_pixels_or_at_the_checkpoints_own_limit() -> None:
    own = training_profile(open_checkpoint(CHECKPOINT), None).budget.max_pixels
    assert own <= 2048 * 32 * 32
    assert training_profile(open_checkpoint(CHECKPOINT), 4096).budget.max_pixels == 4096
    assert training_profile(open_checkpoint(CHECKPOINT), None).stated_frame is None
    assert training_profile(open_checkpoint(CHECKPOINT), None, "unit").frame == "unit"


def test_every_pass_has_every_row_and_any_place_can_be_found_again() -> None:
    order = RowOrder(10, seed=1)
    first, position = order.take(0, 5)
    second, position = order.take(position, 5)
    assert sorted(first + second) == list(range(10))
    third, position = order.take(position, 4)
    assert RowOrder(10, seed=1).take(10, 4) == (third, position)
    assert len(order.take(position, 8)[0]) == 8
    assert order.take(position, 8)[1] == 28
    assert RowOrder(10, seed=2).take(0, 10) != order.take(0, 10)
    assert len(order.take(0, 99)[0]) == 10


def test_the_rows_of_all_steps_are_those_of_one_step_after_the_other() -> None:
    order, taken, position = RowOrder(5, seed=1), list[int](), 0
    for _ in range(4):
        rows, position = order.take(position, 2)
        taken += rows
    assert order.take_steps(2, 4) == taken and len(taken) == 8


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_the_scale_of_weights_changes_no_order(scale: float) -> None:
    """Not even where a power of a random number would be rounded to zero."""
    weights = (0.1, 0.25, 0.2, 0.05, 0.15)
    for seed in range(50):
        order = RowOrder(5, seed, tuple(scale * weight for weight in weights))
        assert order.take(0, 5) == RowOrder(5, seed, weights).take(0, 5)


@pytest.mark.parametrize("weights", [None, tuple(0.01 + 0.24 * (row % 3 == 0) for row in range(30))])
@pytest.mark.parametrize("rounds", [(16, 8, 4), (13, 13, 13), (7, 1, 1), (30, 5), (1, 40), (4, 20), (4, 11, 2)])
def test_no_row_comes_twice_in_a_step_whose_rounds_cross_a_pass(
    weights: tuple[float, ...] | None, rounds: tuple[int, ...]
) -> None:
    order, position = RowOrder(30, seed=3, weights=weights), 0
    for _ in range(40):
        asked: set[int] = set()
        for count in rounds:
            rows, after = order.take(position, count, asked)
            assert len(rows) == len(set(rows)) == min(count, 30 - len(asked)) and not asked & {*rows}
            assert order.take(position, count, asked) == (rows, after)  # found again from the position alone
            asked |= {*rows}
            position = after
        assert len(asked) == min(sum(rounds), 30)


def test_further_rows_of_a_step_are_the_rest_of_the_pass_before_the_next_shuffle() -> None:
    order = RowOrder(10, seed=1)
    whole, following = order.take(0, 10)[0], order.take(10, 10)[0]
    first, position = order.take(5, 3)
    more, position = order.take(position, 5, first)
    assert (first, more[:2]) == (whole[5:8], whole[8:])
    assert more[2:] == [row for row in following if row not in whole[5:]][:3]
    assert position == 10 + following.index(more[-1]) + 1
    assert order.take(position, 9, {*first, *more})[0] != []
    assert order.take(position, 1, range(10)) == ([], position), "each row has been asked"


def test_weights_bring_rows_to_the_front() -> None:
    weights = (0.25, 0.05, 0.05, 0.05)
    firsts = [RowOrder(4, seed, weights).take(0, 1)[0][0] for seed in range(300)]
    assert 0.5 < firsts.count(0) / 300 < 0.75  # 0.625 is expected


def test_memory_follows_from_the_weights() -> None:
    checkpoint = open_checkpoint(CHECKPOINT)
    weights = count_weights(checkpoint, None)
    recipe = make_recipe()
    parts = {
        part.name: part.num_bytes
        for part in estimate_memory(checkpoint, recipe, make_phase(), "perceiver", 100, 300, in_bfloat16=True)
    }
    assert parts["policy"] == 2 * weights.total
    assert parts["Adam's states"] == 8 * weights.total
    assert parts["float32 masters"] == parts["gradients"] == 4 * weights.total
    lora = make_recipe(["model.lora.rank=4"])
    adapted = estimate_memory(checkpoint, lora, make_phase(), "perceiver", 100, 300, in_bfloat16=True)
    assert not any("frozen copy" in part.name for part in adapted)
    trained = count_weights(checkpoint, lora.model.lora).adapters
    assert 0 < trained < weights.language / 5
    assert {part.name: part.num_bytes for part in adapted}["Adam's states"] == 8 * trained
    still = make_recipe(["model.freeze_vision=true"])
    (copied,) = [
        part.num_bytes
        for part in estimate_memory(checkpoint, still, still.phases()[0], "perceiver", 100, 300, in_bfloat16=True)
        if part.name.startswith("frozen copy")
    ]
    assert copied == 2 * (weights.total - weights.vision), "the tower is the policy's"
    slow = make_recipe(["optimizer.kind=offload"])
    offload = estimate_memory(checkpoint, slow, slow.phases()[0], "perceiver", 100, 300, in_bfloat16=True)
    on_host = ["float32 masters", "gradients", "Adam's states", "optimizer: temporaries"]
    assert [part.name for part in offload if not part.on_device] == on_host


def test_several_processes_split_what_they_hold_for_good_and_gather_it_for_a_while() -> None:
    checkpoint = open_checkpoint(CHECKPOINT)
    total = count_weights(checkpoint, None).total

    def estimate(*changes: str, num_processes: int = 8) -> dict[str, int]:
        recipe = make_recipe(changes)
        phase = recipe.phases()[0]
        lengths = (100, 300)
        parts = estimate_memory(
            checkpoint, recipe, phase, "perceiver", *lengths, in_bfloat16=True, num_processes=num_processes
        )
        return {part.name: part.num_bytes for part in parts}

    split, alone = estimate(), estimate(num_processes=1)
    frozen = "frozen copy (KL reference and the other role)"
    held = {"policy": 4, frozen: 2, "gradients": 4, "Adam's states": 8}  # the policy's parts are the masters
    assert {name: split[name] for name in held} == {name: size * total // 8 for name, size in held.items()}
    assert alone["policy"] == 2 * total and "float32 masters" in alone and "float32 masters" not in split
    assert split["rollout and judging: whole weights"] == split["update: whole weights"] == 4 * total
    assert not [name for name in alone if "whole" in name]
    assert "update: whole gradients" not in split
    assert estimate("optimizer.reduce_once=true")["update: whole gradients"] == 4 * total
    assert "update: whole weights" not in estimate("optimizer.reshard=true")
    assert estimate("loss.kl_coef=0")["update: whole weights"] == 2 * total
    served = estimate('partner={kind="endpoint", url="http://host/v1"}')
    assert served["rollout and judging: whole weights"] == 2 * total
    assert served["update: whole weights"] == 4 * total and served["frozen copy (KL reference)"] == 2 * total // 8
    assert "float32 masters" in estimate("optimizer.kind=offload")
    vision = count_weights(checkpoint, None).vision
    still = estimate("model.freeze_vision=true")
    assert still["policy"] == (4 * (total - vision) + 2 * vision) // 8
    assert still[frozen] == 2 * total // 8, "each split model has a tower of its own"
    assert split["optimizer: temporaries"] == alone["optimizer: temporaries"] // 8
    assert 2 * split["rollout: keys and values"] == alone["rollout: keys and values"]  # of two rows a step


def test_what_two_stages_share_is_added_to_both() -> None:
    shared = MemoryPart("one and two: weights", 5 * GIB)
    parts = [MemoryPart("policy", GIB), shared, MemoryPart("two: cache", 2 * GIB), MemoryPart("three: other", 6 * GIB)]
    *_, most = _describe_memory("perceiver", parts, 1)
    assert most == "memory, perceiver:     8.00 GiB on the device at most, estimated"
    *_, most = _describe_memory("perceiver", [*parts, MemoryPart("three: more", 2 * GIB)], 4)
    assert most == "memory, perceiver:     9.00 GiB on each of 4 devices at most, estimated"


def test_memory_of_the_frozen_role_and_of_the_optimizer_by_hand() -> None:
    """Nano has 4 layers, 2 key heads of 32 channels: 2 * 4 * 2 * 32 = 512 numbers a token, of 2 bytes in bfloat16."""
    checkpoint = open_checkpoint(CHECKPOINT)

    def estimate(changes: Sequence[str], kind: PhaseKind = "perceiver") -> dict[str, int]:
        recipe = make_recipe(["partner.max_new_tokens=200", "rollout.prompts_at_once=2", *changes])
        phase = make_phase(kind, recipe=recipe)
        role = "perceiver" if kind == "perceiver" else "reasoner"
        parts = estimate_memory(checkpoint, recipe, phase, role, 100, 300, in_bfloat16=True)
        return {part.name: part.num_bytes for part in parts}

    cache = "judging: the frozen role's keys and values"
    assert estimate([])[cache] == 2 * 4 * (300 + 200) * 512 * 2  # two rows, four box sets each
    assert estimate(["partner.concurrency=3"])[cache] == 3 * (300 + 200) * 512 * 2
    assert estimate([], "reasoner")[cache] == 2 * (300 + 200) * 512 * 2  # two rows, perceived once each
    assert cache not in estimate(['partner={kind="endpoint", url="http://host/v1"}'])
    assert cache not in estimate([], "answerer")
    largest = estimate([])["optimizer: temporaries"]
    assert largest == 16 * max(header.num_weights for header in read_headers(checkpoint.folder).values())
    assert estimate(["model.lora.rank=4"])["optimizer: temporaries"] == 16 * 4 * 512  # of the widest layer, 192 x 512


def test_memory_of_a_supervised_phase_is_its_weights_and_a_pass() -> None:
    """Nothing is rolled out and nothing frozen; a pass is packed full, or holds one row that is longer."""
    checkpoint = open_checkpoint(CHECKPOINT)
    warm_up = 'schedule=[{role="answerer", method="sft", data={source="rows.jsonl"}}, {role="answerer", steps=1}]'

    def estimate(longest: int, *changes: str, num_processes: int = 1) -> dict[str, int]:
        recipe = make_recipe([warm_up, "sft.rows_per_step=4", "sft.pack_tokens=1000", *changes])
        parts = estimate_memory(
            *(checkpoint, recipe, recipe.phases()[0], "perceiver", longest, 0),
            in_bfloat16=True,
            num_processes=num_processes,
        )
        return {part.name: part.num_bytes for part in parts}

    total = count_weights(checkpoint, None).total
    alone = estimate(500)
    assert (alone["policy"], alone["gradients"], alone["Adam's states"]) == (2 * total, 4 * total, 8 * total)
    assert not [name for name in alone if "frozen" in name or "rollout" in name or "judging" in name]
    of_a_pass = "update: activations", "update: logits"
    for name in of_a_pass:
        assert estimate(500)[name] == estimate(250)[name], "four rows, packed into 1,000 tokens"
        assert 2 * estimate(1000)[name] == estimate(2000)[name], "a row that is longer than a pass"
        assert 2 * estimate(125)[name] == alone[name], "no more rows than a step has"
        assert estimate(500, num_processes=4)[name] * 2 == alone[name], "a row for each process"
    split = estimate(500, num_processes=4)
    assert "update: whole weights" in split and "rollout and judging: whole weights" not in split
