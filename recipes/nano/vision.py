"""Stage 1: teach the vision tower to say, token by token, what is where.

Dense supervision with throw-away heads: is an object centered here, which color and shape (scored against the language
model's own word embeddings, so that the two spaces meet), which pattern (close views only), where within the token,
which row and column, the digits of its box, which drawn box is centered here. Without the row and column loss the tower
keeps no absolute position, and no language model can then write coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from p2r.benchmarks.needles.scene import COLORS, PATTERNS, SHAPES, Scene
from recipes.nano.encode import encode
from recipes.nano.pool import Entry, View
from recipes.nano.progress import Log, Saver

HEADS = {
    "object": 1,
    "pattern": len(PATTERNS),
    "offset": 2,
    "row": 8,
    "column": 8,
    "hundreds": 40,
    "tens": 40,
    "drawn": 4,
}
OBJECT, COLOR, SHAPE, PATTERN, OFFSET, HUNDREDS, TENS, DRAWN = 0, 1, 2, 3, slice(4, 6), slice(6, 10), slice(10, 14), 14
NUM_LABELS = 15
FULL, ANNOTATED, CLOSE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class VisionPlan:
    """steps: optimizer steps. scenes: per step, each with all its images. lr: peak, cosine to 5%; positions get four
    times it."""

    steps: int
    scenes: int
    lr: float
    seed: int


class Heads(nn.Module):
    """Throw-away read-outs of one visual token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.Linear(width, sum(HEADS.values()))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, tokens_ND: Tensor) -> dict[str, Tensor]:
        parts = self.read(tokens_ND).split(list(HEADS.values()), -1)
        return dict(zip(HEADS, parts, strict=True))


def train_vision(
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    entries: list[Entry],
    plan: VisionPlan,
    folder: Path,
) -> None:
    """Train the tower (and the word embeddings it is scored against) in place; resumes from `folder`."""
    heads = Heads(model.config.text_config.hidden_size)
    words = torch.tensor([tokenizer.encode(" " + word)[0] for word in (*COLORS, *SHAPES)])
    embedding, positions = model.get_input_embeddings().weight, model.model.visual.pos_embed.weight
    others = [p for p in model.model.visual.parameters() if p is not positions] + [*heads.parameters(), embedding]
    optimizer = torch.optim.AdamW(
        [{"params": others, "factor": 1.0}, {"params": [positions], "factor": 4.0}],
        betas=(0.9, 0.98),
        weight_decay=0.02,
    )
    rng = np.random.RandomState([plan.seed, 1])
    saver, log = (
        Saver(folder / "vision_state.pt", model, heads, optimizer, rng),
        Log(folder / "vision.jsonl", "vision", plan.steps),
    )
    order: list[int] = []
    first = saver.resume()
    for step in range(plan.steps):
        if len(order) < plan.scenes:
            order = list(np.random.RandomState([plan.seed, 2, step]).permutation(len(entries)))
        chosen, order = order[: plan.scenes], order[plan.scenes :]
        if step < first:
            continue
        done = step / plan.steps
        rate = plan.lr * min(1, (step + 1) / 40) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss, figures = _loss(model, heads, embedding[words], [entries[index] for index in chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*others, positions], 1.0)
        optimizer.step()
        log.step(step, figures)
        saver.every(step, 100)
    log.close()


def _loss(
    model: Qwen3VLForConditionalGeneration, heads: Heads, words_WD: Tensor, entries: list[Entry]
) -> tuple[Tensor, dict[str, float]]:
    views, labels, kinds = _gather_views(entries)
    features = encode(model, views)
    last = torch.cat([feature.tokens for feature in features])
    deep = last + torch.cat([feature.deep.sum(0) for feature in features])
    y = torch.from_numpy(np.concatenate(labels))
    kind = torch.from_numpy(np.repeat(kinds, [len(label) for label in labels]))
    here = y[:, OBJECT] > 0
    whole = kind < CLOSE
    close, marked = here & (kind == CLOSE), kind == ANNOTATED
    both = here & whole
    total, figures = torch.zeros(()), {}
    place = torch.arange(64).repeat(int(whole.sum()) // 64)
    for weight, tokens in ((1.0, last), (0.5, deep)):
        out = heads(tokens)
        names = F.linear(tokens, words_WD) * heads.scale
        parts = {
            "object": 3 * F.binary_cross_entropy_with_logits(out["object"][:, 0], here.float()),
            "color": F.cross_entropy(names[here][:, :6], y[here, COLOR].long()),
            "shape": F.cross_entropy(names[here][:, 6:], y[here, SHAPE].long()),
            "pattern": 1.5 * F.cross_entropy(out["pattern"][close], y[close, PATTERN].long()),
            "offset": (out["offset"][here] - y[here, OFFSET].float()).abs().mean(),
            "place": 0.5
            * (F.cross_entropy(out["row"][whole], place // 8) + F.cross_entropy(out["column"][whole], place % 8)),
            "hundreds": F.cross_entropy(out["hundreds"][both].reshape(-1, 10), y[both, HUNDREDS].reshape(-1).long()),
            "tens": 0.3 * F.cross_entropy(out["tens"][both].reshape(-1, 10), y[both, TENS].reshape(-1).long()),
            "drawn": F.cross_entropy(
                out["drawn"][marked], y[marked, DRAWN].long(), weight=torch.tensor([0.1, 1.0, 1.0, 1.0])
            ),
        }
        total = total + weight * torch.stack(list(parts.values())).sum()
        if weight == 1.0:
            right = {
                "color_right": (names[both][:, :6], y[both, COLOR]),
                "shape_right": (names[both][:, 6:], y[both, SHAPE]),
                "pattern_right": (out["pattern"][close], y[close, PATTERN]),
                "hundreds_right": (out["hundreds"][both].reshape(-1, 10), y[both, HUNDREDS].reshape(-1)),
                "drawn_right": (out["drawn"][marked & (y[:, DRAWN] > 0)], y[marked & (y[:, DRAWN] > 0), DRAWN]),
            }
            figures = {
                name: float((logits.argmax(-1) == truth).float().mean()) for name, (logits, truth) in right.items()
            }
    figures["loss"] = float(total.detach())
    return total, figures


def _gather_views(entries: list[Entry]) -> tuple[list[View], list[NDArray[np.float64]], list[int]]:
    views, labels, kinds = [], [], []
    for entry in entries:
        images = [(entry.full, FULL), *((view, CLOSE) for view in entry.zooms)]
        if entry.case:
            images += [(entry.case.annotated, ANNOTATED), *((view, CLOSE) for view in entry.case.crops)]
        for view, kind in images:
            views.append(view)
            labels.append(_label(entry.scene, view))
            kinds.append(kind)
    return views, labels, kinds


def _label(scene: Scene, view: View) -> NDArray[np.float64]:
    """(tokens, NUM_LABELS): zeros where no object is centered."""
    rows, columns = view.grid
    label = np.zeros((rows * columns, NUM_LABELS))
    for item in scene.objects:
        token = view.token_at(item.x, item.y)
        if token is None:
            continue
        u = (item.x - view.origin[0]) * view.scale[0] / 32
        v = (item.y - view.origin[1]) * view.scale[1] / 32
        corners = [min(999, int(value)) for value in item.box(scene.knobs.side_px).xyxy]
        names = [1, list(COLORS).index(item.color), SHAPES.index(item.shape), PATTERNS.index(item.pattern)]
        digits = [value // 100 for value in corners] + [value // 10 % 10 for value in corners]
        label[token, :14] = [*names, u - int(u), v - int(v), *digits]
    for number, box in enumerate(view.drawn, start=1):
        x, y = box.center
        side = scene.knobs.side_px
        token = view.token_at(x / 1000 * side, y / 1000 * side)
        if token is not None:
            label[token, DRAWN] = number
    return label
