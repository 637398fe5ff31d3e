"""Qwen3.5 (linear attention, dense and with experts) and Qwen2-VL in this process, from tiny random checkpoints."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import p2r
from p2r.dialogue import Decoding
from p2r.models.checkpoint import open_checkpoint
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.model import LocalModel, load_engine
from tests.fakes.tiny_checkpoint import Family, make_checkpoint
from tests.integration.test_local_generation import make_prompts, noise, reply_all, reply_singly

FAMILIES: tuple[Family, ...] = ("qwen3_5", "qwen3_5_moe", "qwen2_vl")
ALIKE = 2e-4
"""The most by which float32 logits differ for rounding; padding that is seen moves most of them by 0.05 and more."""


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family: Family = request.param
    return make_checkpoint(tmp_path_factory.mktemp(family), family)


def test_a_prompt_padded_on_the_left_is_read_and_continued_as_if_it_were_alone(folder: Path) -> None:
    """Logits of the first token, and of the next after rows have left the batch."""
    checkpoint = open_checkpoint(folder)
    encoder = PromptEncoder(checkpoint)
    engine = load_engine(checkpoint, encoder, torch.device("cpu"), torch.float32)
    filler = min(engine.end_token_ids)  # an embedding of zeros would be padding that nobody sees
    engine.model.get_input_embeddings().weight[filler] = torch.linspace(-1, 1, 64)
    prompts = [encoder.encode(prompt) for prompt in make_prompts(checkpoint.patches.factor)]
    assert len({len(prompt.token_ids) for prompt in prompts}) > 3
    with torch.inference_mode():
        together = engine.prefill(prompts)
        kept = torch.tensor([1, 4])
        together.cache.reorder_cache(kept)
        next_21 = torch.tensor([[7], [8]])
        place_21 = together.length_B1[kept]
        axes_321 = (place_21 + together.shift_B1[kept])[None].expand(3, -1, -1)
        mask_2P = torch.cat([together.mask_BP[kept], torch.ones(2, 1, dtype=torch.long)], dim=1)
        after = engine._step(together.cache, next_21, mask_2P, torch.cat([place_21[None], axes_321]))
        for row, prompt in enumerate(prompts):
            alone = engine.prefill([prompt])
            assert float((alone.logits_BV - together.logits_BV[row]).nan_to_num(0.0).abs().max()) < ALIKE
            if row in kept:
                slot = kept.tolist().index(row)
                place_11 = alone.length_B1
                axes_311 = (place_11 + alone.shift_B1)[None].expand(3, -1, -1)
                mask_1P = torch.cat([alone.mask_BP, torch.ones(1, 1, dtype=torch.long)], dim=1)
                own = engine._step(
                    alone.cache, next_21[slot : slot + 1], mask_1P, torch.cat([place_11[None], axes_311])
                )
                assert float((own[0] - after[slot]).nan_to_num(0.0).abs().max()) < ALIKE


def test_replies_go_on_when_half_of_them_have_ended(folder: Path) -> None:
    """The longest prompts have room for one token, and leave the batch."""
    checkpoint = open_checkpoint(folder)
    encoder = PromptEncoder(checkpoint)
    engine = load_engine(checkpoint, encoder, torch.device("cpu"), torch.float32)
    prompts = sorted(map(encoder.encode, make_prompts(checkpoint.patches.factor)), key=lambda each: len(each.token_ids))
    engine = replace(engine, max_positions=len(prompts[2].token_ids) + 10)
    decoding = Decoding(max_new_tokens=10)
    together = engine.generate(prompts, decoding)
    assert together == [engine.generate([prompt], decoding)[0] for prompt in prompts]
    assert [reply.num_generated for reply in together][::5] == [10, 1]


def test_probabilities_of_first_words_do_not_depend_on_the_batch(folder: Path) -> None:
    model = LocalModel.load(folder, device="cpu")
    prompts = make_prompts(model.profile.budget.factor)[:4]
    decoding = Decoding(max_new_tokens=2, first_words=("Yes", "No"))
    together = asyncio.run(reply_all(model, prompts, decoding))
    alone = reply_singly(model, prompts, decoding)
    for one, other in zip(together, alone, strict=True):
        assert 0 < one.first_probs[0] != one.first_probs[1] > 0
        assert one.first_probs == pytest.approx(other.first_probs, rel=1e-3)


def test_the_profile_is_that_of_config_json(folder: Path) -> None:
    profile = open_checkpoint(folder).profile()
    kind = str(json.loads((folder / "config.json").read_text())["model_type"])
    assert (profile.family, profile.budget.factor) == (("qwen2_vl", 28) if kind == "qwen2_vl" else ("qwen3_5", 32))
    assert profile.frame == "per_mille" and profile.knows_frame


def test_no_thought_is_begun_before_a_reply(folder: Path) -> None:
    text = PromptEncoder(open_checkpoint(folder)).render(make_prompts(32)[0])
    if "qwen2_vl" in folder.name:
        assert text.endswith("<|im_start|>assistant\n")
    else:
        assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_questions_are_asked_and_a_benchmark_is_scored(folder: Path) -> None:
    model = LocalModel.load(folder, device="cpu", max_pixels=64 * 32 * 32)
    trace = p2r.P2R(model, perceiver_new_tokens=4, reasoner_new_tokens=4).ask(noise(200, 150, 0), "What is it?")
    assert trace.failure is None and trace.perception is not None and trace.reasoning is not None
    assert trace.reasoning.usage.visual_tokens[0] > 0
    run = p2r.evaluate(
        "needles", model, mode="p2r", limit=2, perceiver_new_tokens=4, reasoner_new_tokens=4, num_at_once=2
    )
    assert [each.failure for each in run.traces.values()] == [None, None]
