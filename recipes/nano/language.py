"""Stage 2: a fresh language model learns to perceive, to reason on evidence and to guess when it looks only once.

The vision tower is frozen, its features are computed once. A short text-only warm-up teaches to look up an option's
letter. Boxes and readings are those of a demonstrator with faults (demonstrator.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from p2r.benchmarks.needles.questions import Question, ask, ask_if_there
from p2r.benchmarks.needles.scene import Scene
from recipes.nano.batch import Batch, collate
from recipes.nano.demonstrator import Demonstrator
from recipes.nano.features import CachedEntry
from recipes.nano.pool import Entry, can_relate, draw_family
from recipes.nano.progress import Log, Saver
from recipes.nano.replies import Replier
from recipes.nano.rows import (
    ANSWER_WEIGHT,
    DIRECT,
    HUNDREDS_WEIGHT,
    LABEL_WEIGHT,
    PERCEIVE,
    POINTER_HEADS,
    POINTER_NAMES,
    REASON,
    ROLE_WEIGHT,
    THOUGHT_WEIGHT,
    Row,
    RowMaker,
)
from recipes.nano.validation import validate
from recipes.nano.wording import ask_for_count

KIND_WEIGHTS = {PERCEIVE: 1.5, REASON: 1.0, DIRECT: 0.3}
FIGURES = {
    PERCEIVE: {"role": ROLE_WEIGHT, "hundreds": HUNDREDS_WEIGHT, "label": LABEL_WEIGHT},
    REASON: {"thought": THOUGHT_WEIGHT, "answer": ANSWER_WEIGHT},
    DIRECT: {"guess": ANSWER_WEIGHT},
}
"""The losses in the log, and the weights that tell their tokens."""


@dataclass(frozen=True, slots=True)
class LanguagePlan:
    """How long and how hard.

    warmup_steps: text-only steps first. steps: in all, these included.
    decay_steps: the last steps, over which the learning rate falls to 5%.
    perceive_rows, reason_rows, lookup_rows: rows a step.
    questions: perceiver questions a row, and half of the look-ups a row.
    bf16: compute in bf16 where that is safe; two thirds of the time on a processor that has it, far more on others.
    """

    warmup_steps: int
    steps: int
    decay_steps: int
    lr: float
    perceive_rows: int
    reason_rows: int
    lookup_rows: int
    questions: int
    validate_every: int
    bf16: bool
    seed: int


class Auxiliary(nn.Module):
    """Reads the first two digits of a box's corners at its name's token: the throw-away head of stage 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.digits = nn.Linear(width, 80)


class Attention:
    """Keeps the attention weights and the hidden states that the supervision reads."""

    def __init__(self, model: Qwen3VLForConditionalGeneration) -> None:
        self.weights: dict[int, Tensor] = {}
        self.hidden = torch.zeros(())
        layers = model.model.language_model.layers
        for index in {layer for layer, _ in POINTER_HEADS.values()}:
            layers[index].self_attn.register_forward_hook(
                lambda _m, _i, output, index=index: self.weights.__setitem__(index, output[1])
            )
        layers[2].register_forward_hook(
            lambda _m, _i, output: setattr(self, "hidden", output[0] if isinstance(output, tuple) else output)
        )


def train_language(
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    cached: Sequence[CachedEntry],
    held_out: Sequence[Entry],
    plan: LanguagePlan,
    demonstrator: Demonstrator,
    folder: Path,
) -> None:
    """Train the language model in place; resumes from `folder`."""
    model.model.language_model.config._attn_implementation = "eager"  # gives the attention weights
    attention, heads, maker = (
        Attention(model),
        Auxiliary(model.config.text_config.hidden_size),
        RowMaker(tokenizer),
    )
    replier = Replier(model, tokenizer)
    weights = [p for name, p in model.named_parameters() if "visual" not in name] + list(heads.parameters())
    optimizer = torch.optim.AdamW(weights, lr=plan.lr, betas=(0.9, 0.98), weight_decay=0.02)
    rng = np.random.RandomState([plan.seed, 3])
    saver, log = (
        Saver(folder / "language_state.pt", model, heads, optimizer, rng),
        Log(folder / "language.jsonl", "language", plan.steps),
    )
    evident = [item for item in cached if item.case]
    for step in range(saver.resume(), plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * _rate(step, plan)
        loss, figures = torch.zeros(()), {}
        for rows in _draw_rows(maker, rng, cached, evident, plan, demonstrator, step):
            batch = _collate(model, rows)
            with torch.autocast("cpu", torch.bfloat16, enabled=plan.bf16):
                part, seen = _loss(model, heads, attention, batch)
            loss, figures = loss + part, seen | figures
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        log.step(step, figures)
        if (step + 1) % plan.validate_every == 0 and step >= plan.warmup_steps:
            model.eval()
            scores = validate(replier, held_out)
            model.train()
            log.write({"step": step + 1, **scores})
        saver.every(step, 50)
    log.close()


def _draw_rows(
    maker: RowMaker,
    rng: np.random.RandomState,
    cached: Sequence[CachedEntry],
    evident: Sequence[CachedEntry],
    plan: LanguagePlan,
    demonstrator: Demonstrator,
    step: int,
) -> list[list[Row]]:
    """The rows of a step, in batches of a kind."""
    if step < plan.warmup_steps:
        return [_lookup_rows(maker, rng, evident, 6, plan.questions)]
    return [
        _perceiver_rows(maker, rng, cached, plan, demonstrator),
        _reasoner_rows(maker, rng, evident, plan.reason_rows, demonstrator),
        _lookup_rows(maker, rng, evident, plan.lookup_rows, plan.questions),
    ]


def _rate(step: int, plan: LanguagePlan) -> float:
    return min(1.0, (step + 1) / 30) * max(0.05, min(1.0, (plan.steps - step) / plan.decay_steps))


def _draw_question(rng: np.random.RandomState, scene: Scene) -> Question:
    question = ask(rng, scene, draw_family(rng, scene), choice=bool(rng.rand() < 0.6))
    return _sometimes_vary(rng, scene, question, 0.2)


def _sometimes_vary(rng: np.random.RandomState, scene: Scene, question: Question, share: float) -> Question:
    """About the same objects, ask how many of a pair have a pattern, or whether one with this pattern is there."""
    if question.family == "relation" or rng.rand() >= share:
        return question
    if question.family == "pair":
        return ask_for_count(rng, scene, question)
    return ask_if_there(rng, scene, question.subjects[0], choice=bool(question.options))


def _perceiver_rows(
    maker: RowMaker,
    rng: np.random.RandomState,
    items: Sequence[CachedEntry],
    plan: LanguagePlan,
    demonstrator: Demonstrator,
) -> list[Row]:
    rows = []
    for _ in range(plan.perceive_rows):
        item = items[rng.randint(len(items))]
        scene = item.entry.scene
        row = maker.open_row(rng, [item.entry.full], [item.full])
        for _ in range(plan.questions):
            question = _draw_question(rng, scene)
            maker.add_perceiver(row, rng, scene, question, item.entry.full, demonstrator.look(rng, question))
        maker.add_direct(row, rng, scene, _draw_question(rng, scene))
        rows.append(row)
    return rows


def _reasoner_rows(
    maker: RowMaker,
    rng: np.random.RandomState,
    items: Sequence[CachedEntry],
    count: int,
    demonstrator: Demonstrator,
) -> list[Row]:
    rows = []
    for _ in range(count):
        item = items[rng.randint(len(items))]
        case = item.entry.case
        assert case is not None
        scene = item.entry.scene
        row = maker.open_row(rng, [case.annotated, *case.crops], item.case)
        another = case.questions[rng.randint(2)]
        for question in (*case.questions, _sometimes_vary(rng, scene, another, 0.5)):
            maker.add_reasoner(row, rng, *demonstrator.read(rng, scene, question), case.crops)
        rows.append(row)
    return rows


def _lookup_rows(
    maker: RowMaker, rng: np.random.RandomState, items: Sequence[CachedEntry], count: int, questions: int
) -> list[Row]:
    rows = []
    for _ in range(count):
        row = maker.open_row(rng, [], [])
        for _ in range(2 * questions):
            scene = items[rng.randint(len(items))].entry.scene
            family = "relation" if rng.rand() < 0.7 and can_relate(scene) else draw_family(rng, scene)
            question = ask(rng, scene, family, choice=bool(rng.rand() < 0.75))
            maker.add_lookup(row, rng, scene, _sometimes_vary(rng, scene, question, 0.3))
        rows.append(row)
    return rows


def _collate(model: Qwen3VLForConditionalGeneration, rows: Sequence[Row]) -> Batch:
    config = model.config
    levels = len(config.vision_config.deepstack_visual_indexes)
    return collate(rows, config.text_config.pad_token_id, config.image_token_id, config.text_config.hidden_size, levels)


def _loss(
    model: Qwen3VLForConditionalGeneration, heads: Auxiliary, attention: Attention, batch: Batch
) -> tuple[Tensor, dict[str, float]]:
    embeds = model.get_input_embeddings()(batch.ids_BL)
    has_images = bool(batch.visual_BL.any())
    if has_images:
        embeds = embeds.masked_scatter(batch.visual_BL[..., None], batch.tokens_ND)
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        position_ids=batch.positions_3BL,
        attention_mask=batch.bias_B1LL,
        use_cache=False,
        visual_pos_masks=batch.visual_BL if has_images else None,
        deepstack_visual_embeds=list(batch.deep_KND) if has_images else None,
    ).last_hidden_state
    losses = F.cross_entropy(model.lm_head(hidden[batch.places]), batch.labels, reduction="none")
    total, figures = torch.zeros(()), {}
    for kind, weight in KIND_WEIGHTS.items():
        mine = batch.kinds == kind
        if mine.any():
            total = total + weight * (losses[mine] * batch.weights[mine]).sum() / batch.weights[mine].sum()
            for name, key in FIGURES[kind].items():
                if (places := mine & (batch.weights == key)).any():
                    figures[name] = float(losses[places].detach().mean())
    for slot, (row, query, key) in batch.pointers.items():
        layer, which = POINTER_HEADS[slot]
        mass = attention.weights[layer][row, which, query, key].mean(1)
        pointer = -(mass + 1e-5).log().mean()
        total = total + 0.5 * pointer
        figures[POINTER_NAMES[slot]] = float(pointer.detach())
    if batch.box_digits:
        row, place, digits = batch.box_digits
        read, digits = heads.digits(attention.hidden[row, place]).reshape(-1, 8, 10), digits.reshape(-1, 8)
        figures["digits_right"] = float((read.argmax(-1) == digits)[:, :4].float().mean())
        hundreds, tens = (
            F.cross_entropy(read[:, k : k + 4].reshape(-1, 10), digits[:, k : k + 4].reshape(-1)) for k in (0, 4)
        )
        total = total + 0.5 * (hundreds + 0.4 * tens)
    return total, figures
