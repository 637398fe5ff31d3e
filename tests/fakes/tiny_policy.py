"""A tiny random Qwen-VL model and prompts for it, without checkpoint or tokenizer, and the plain way to train it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch

from p2r.models.local import model as local  # noqa: F401  # first: it keeps a torchvision that does not fit out of transformers

# isort: split
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen3_vl import modeling_qwen3_vl

from p2r.dialogue import Decoding
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.local.engine import Engine, VisionLanguageModel
from p2r.models.local.patches import normalize
from p2r.models.profiles import QWEN2_5_VL, QWEN3_VL, PatchFormat
from p2r.training.engines.local.attention import install
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.generate import Generated, Wanted, generate_groups
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy, Snapshot
from p2r.training.groups import Group, Rollout
from p2r.training.update import Learner
from tests.fakes.training import make_recipe, make_sample

Family = Literal["qwen3_vl", "qwen2_5_vl", "qwen2_vl"]
FORMATS: dict[Family, PatchFormat] = {"qwen3_vl": QWEN3_VL, "qwen2_5_vl": QWEN2_5_VL, "qwen2_vl": QWEN2_5_VL}
VOCABULARY, IMAGE = 120, 110
END = frozenset(range(102, 110))  # many, so that replies end at all lengths


def make_model(family: Family = "qwen3_vl", dtype: torch.dtype = torch.float64, seed: int = 0) -> VisionLanguageModel:
    """Weights large enough that attention is far from even."""
    torch.manual_seed(seed)
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
    }
    ids = {
        "image_token_id": IMAGE,
        "video_token_id": IMAGE + 1,
        "vision_start_token_id": IMAGE + 2,
        "vision_end_token_id": IMAGE + 3,
        "tie_word_embeddings": True,
    }
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32}
    if family == "qwen3_vl":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
        text = common | {"head_dim": 8, "rope_parameters": rope}
        vision |= {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
        config = Qwen3VLConfig(text_config=text, vision_config=vision | {"initializer_range": 0.3}, **ids)
        model: VisionLanguageModel = Qwen3VLForConditionalGeneration(config)
    elif family == "qwen2_vl":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
        sees = {
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": 32,
            "mlp_ratio": 2,
            "num_heads": 2,
            "initializer_range": 0.3,
        }
        text = common | {"rope_parameters": rope}
        model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=sees, **ids))
    else:
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
        vision |= {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
        config = Qwen2_5_VLConfig(
            text_config=common | {"rope_parameters": rope}, vision_config=vision | {"initializer_range": 0.3}, **ids
        )
        model = Qwen2_5_VLForConditionalGeneration(config)
    model = model.to(dtype).train()
    install(model)
    return model


def use_exact_parts(patch: pytest.MonkeyPatch) -> None:
    """The stock norms, and rotation in the vision tower, round to float32 inside a float64 model; these do not."""

    def norm(self: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight * (hidden * (hidden.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt())

    def rotate(
        query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        turned = [each * cos[:, None] + modeling_qwen3_vl.rotate_half(each) * sin[:, None] for each in (query, key)]
        return turned[0], turned[1]

    patch.setattr(modeling_qwen3_vl.Qwen3VLTextRMSNorm, "forward", norm)
    patch.setattr(modeling_qwen2_5_vl.Qwen2_5_VLRMSNorm, "forward", norm)
    patch.setattr(modeling_qwen2_vl.Qwen2VLRMSNorm, "forward", norm)
    for module in (modeling_qwen3_vl, modeling_qwen2_5_vl, modeling_qwen2_vl):
        patch.setattr(module, "apply_rotary_pos_emb_vision", rotate)


def make_engine(model: VisionLanguageModel, family: Family = "qwen3_vl") -> Engine:
    return Engine(model, FORMATS[family], IMAGE, END, max_positions=512, num_frames=2)


def make_prompt(
    grids: Sequence[tuple[int, int]], num_text: int = 7, seed: int = 1, family: Family = "qwen3_vl"
) -> EncodedPrompt:
    """grids: rows and columns of each image, in visual tokens."""
    random = np.random.default_rng(seed)
    ids: list[int] = random.integers(5, 100, 3).tolist()
    for rows, columns in grids:
        ids += [IMAGE + 2, *[IMAGE] * (rows * columns), IMAGE + 3]
    ids += random.integers(5, 100, num_text).tolist()
    values = 3 * FORMATS[family].patch_size ** 2
    return EncodedPrompt(
        tuple(ids),
        tuple(random.integers(0, 256, (4 * rows * columns, values), dtype=np.uint8) for rows, columns in grids),
        tuple((1, 2 * rows, 2 * columns) for rows, columns in grids),
        tuple(rows * columns for rows, columns in grids),
    )


def make_responses(lengths: Sequence[int], seed: int = 2) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(5, 100, length).tolist() for length in lengths]


def draw_groups(
    engine: Engine,
    prompts: Sequence[EncodedPrompt],
    decoding: Decoding,
    seeds: Sequence[Sequence[int]],
    abandoned: Callable[[], bool] = lambda: False,
    *,
    num_at_once: int = 99,
    fixed_shapes: bool | None = None,
) -> list[list[Generated]]:
    """The groups in the order of their prompts."""
    wanted = map(Wanted, prompts, seeds)
    found = dict(generate_groups(engine, wanted, decoding, num_at_once, abandoned, fixed_shapes=fixed_shapes))
    return [found[place] for place in range(len(prompts))]


def make_learner(changes: Sequence[str] = (), *, seed: int = 0, world: World | None = None) -> Learner:
    """A tiny policy in a perceiver phase, beside a reference of other weights.

    changes: settings of the recipe. seed: of the weights.
    """
    model, nothing = make_model(seed=seed), cast(Any, None)
    policy = Policy(
        cast(Any, SimpleNamespace(patches=QWEN3_VL)), nothing, nothing, make_engine(model), torch.float64, model.device
    )
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in reference.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    snapshot = Snapshot(replace(policy.engine, model=reference), nothing, shares_weights=False)
    phase = make_recipe(changes).phases()[0]
    optimizer = Optimizer(policy.trainable, phase.optimizer, World())
    return Learner(phase, policy, snapshot, optimizer, world or World())


def make_groups(*rewards: Sequence[float | None], seed: int = 3) -> list[Group]:
    """A group for each sequence of rewards, with replies of 2 to 6 tokens to a prompt of its own with an image."""
    lengths = np.random.default_rng(seed)
    groups: list[Group] = []
    for row, own in enumerate(rewards):
        replies = make_responses([int(lengths.integers(2, 7)) for _ in own], seed=seed + row)
        rollouts = [
            Rollout(tuple(reply), True, "", None, reward, {}) for reply, reward in zip(replies, own, strict=True)
        ]
        groups.append(Group(make_sample(f"s{row}"), "perceiver", make_prompt([(2, 2)], seed=row), tuple(rollouts)))
    return groups


def repeated_logits(
    model: VisionLanguageModel, groups: Sequence[tuple[EncodedPrompt, Sequence[Sequence[int]]]]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The plain way: for each response the logits (T, V) that predict its tokens, and the tokens."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    for prompt, responses in groups:
        for response in responses:
            ids = torch.tensor([[*prompt.token_ids, *response]])
            images = {
                "pixel_values": normalize(prompt.patches, QWEN3_VL, dtype=model.dtype),
                "image_grid_thw": torch.tensor(prompt.grids),
                "mm_token_type_ids": (ids == IMAGE).int(),
            }
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **images).logits
            found.append((logits[0, len(prompt.token_ids) - 1 : -1], torch.tensor(response)))
    return found


def repeated_logprobs(
    model: VisionLanguageModel,
    groups: Sequence[tuple[EncodedPrompt, Sequence[Sequence[int]]]],
    family: Family = "qwen3_vl",
) -> list[torch.Tensor]:
    """The plain way: for each response a row of its own through the stock model, prompt and images anew."""
    logprobs = []
    for prompt, responses in groups:
        for response in responses:
            ids = torch.tensor([[*prompt.token_ids, *response]], device=model.device)
            images = {}
            if prompt.grids:
                images = {
                    "pixel_values": normalize(prompt.patches, FORMATS[family], device=model.device, dtype=model.dtype),
                    "image_grid_thw": torch.tensor(prompt.grids, device=model.device),
                    "mm_token_type_ids": (ids == IMAGE).int(),
                }
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **images).logits
            first = len(prompt.token_ids) - 1
            chosen = logits[0, first:-1].log_softmax(-1)
            logprobs.append(chosen.gather(1, ids[0, first + 1 :, None])[:, 0])
    return logprobs


class Recorder:
    """In place of an optimizer: keeps the gradient of each update, and changes nothing."""

    def __init__(self, learner: Learner) -> None:
        self.masters, self.gradients = learner.optimizer._masters, list[torch.Tensor]()

    def step(self, rate: float) -> float:
        self.gradients.append(torch.cat([master.grad.flatten() for master in self.masters.values()]))
        for master in self.masters.values():
            master.grad = None
        return 0.0
