"""TRL's GRPOTrainer as the referee of our update: on the same rollouts it finds the same loss and gradient norm.

Both sides get the same weights (a tiny random Qwen3-VL in float32), another model as reference so that the KL term
counts, prompts with one and with two images, ragged replies and their rewards. TRL tokenizes and sees the images by
the stock processor, pads, repeats each prompt for each reply, and takes the batch at once; ours packs, a group at a
time. Two optimizer steps follow the batch, so that in the second one ratios differ from 1 and some are clipped.

TRL divides by (std + 1e-4), which cannot be set, and has verl's dual clip by another name and its clamps not at all;
ours is told to do the same. All else that the two would choose differently is set on TRL's side, by the names that
`recipes/trl_perceiver_phase.py` gives it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import stock_torchvision  # before transformers

# isort: split
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from p2r.config import ModelSettings, Phase, parse_recipe
from p2r.dialogue import Prompt
from p2r.images.load import MemoryImage
from p2r.models.local.encoding import EncodedPrompt
from p2r.training.engines.local.distributed import World
from p2r.training.engines.local.optimizer import Optimizer
from p2r.training.engines.local.policy import Policy, load_policy, take_snapshot
from p2r.training.groups import Group, Rollout
from p2r.training.update import Learner, UpdateReport, learn_step
from p2r.types import Sample
from recipes.trl_perceiver_phase import map_settings
from tests.fakes.tiny_checkpoint import make_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:You are using 'rollout_func'"),
    pytest.mark.skipif(not find_spec("trl"), reason="trl is not installed: pip install trl==1.16.0"),
    pytest.mark.skipif(not stock_torchvision.HAS_TORCHVISION, reason="TRL's stock processor needs torchvision"),
]

RATE, GRAD_CLIP = 1e-3, 1.0
MAX_NEW_TOKENS = 12
TRL_EPS = 1e-4
SYSTEM = "You are a helpful assistant."
REWARDS = ((1.0, 0.0, 1.0, 0.0), (0.0, 0.5, 0.0, 1.0))
LENGTHS = ((5, 12, 1, 7), (3, 4, 9, 12))
CUT_OFF = {(0, 1), (1, 0), (1, 3)}
"""Replies without an end token, by prompt and place."""
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """An estimator."""

    name: str
    settings: Mapping[str, object]
    std: str = "sample"

    def make_phase(self, num_updates: int = 1) -> Phase:
        tables: dict[str, Mapping[str, object]] = {
            "loss": {"dual_clip": 0, "clamp": False, **self.settings},
            "advantage": {"std": self.std, "eps": TRL_EPS},
            "rollout": {"max_new_tokens": {"perceiver": MAX_NEW_TOKENS, "reasoner": MAX_NEW_TOKENS}},
            "optimizer": {"weight_decay": 0.0, "grad_clip": GRAD_CLIP, "updates_per_batch": num_updates},
        }
        return parse_recipe({"out": "unused", "data": {"num_rows": 2}, **tables}).phases()[1]


CASES = (
    Case("release", {}),
    Case("paper", {"reduction": "sequence-mean"}),
    Case("strong KL", {"kl_coef": 0.5, "reduction": "sequence-mean"}),
    Case("DAPO", {"kl_coef": 0.0, "clip_high": 0.28}),
    Case("Dr.GRPO", {"kl_coef": 0.0, "reduction": "dr-grpo"}, std="none"),
    Case("dual clip", {"dual_clip": 1.3}),
    Case("CISPO", {"objective": "cispo", "kl_coef": 0.0, "clip_low": 1.0, "clip_high": 0.1}),
    *(
        Case(f"truncated replies masked, {reduction}", {"mask_truncated": True, "reduction": reduction})
        for reduction in ("token-mean", "sequence-mean", "dr-grpo")
    ),
    Case(
        "GSPO",
        {"kl_coef": 0.0, "reduction": "sequence-mean", "ratio": "sequence", "clip_low": 0.05, "clip_high": 0.05},
    ),
)


@dataclass(frozen=True)
class Rolled:
    """What both sides learn from: for each prompt its images, its text, and its replies, which `end` ends."""

    images: Sequence[Sequence[Image.Image]]
    texts: Sequence[str]
    replies: Sequence[Sequence[tuple[int, ...]]]
    end: int


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Checkpoints of the reference, and of the policy: the same with some noise on it."""
    root = tmp_path_factory.mktemp("checkpoints")
    reference = make_checkpoint(root / "reference")
    policy = Path(shutil.copytree(reference, root / "policy"))
    model = Qwen3VLForConditionalGeneration.from_pretrained(reference, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    model.save_pretrained(policy)
    return reference, policy


@pytest.fixture(scope="module")
def rolled(folders: tuple[Path, Path]) -> Rolled:
    random = np.random.default_rng(0)
    end = AutoProcessor.from_pretrained(folders[1]).tokenizer.eos_token_id

    def draw(width: int, height: int) -> Image.Image:
        return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))

    return Rolled(
        images=((draw(256, 256),), (draw(288, 256), draw(256, 320))),
        texts=("What is on the sail?", "Which of the two boats is the nearer one?"),
        replies=[
            [
                (*random.integers(30, 250, length - 1).tolist(), 29 if (prompt, place) in CUT_OFF else end)
                for place, length in enumerate(row)
            ]
            for prompt, row in enumerate(LENGTHS)
        ],
        end=end,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_loss_and_gradient_norm_are_those_of_trl(
    case: Case, folders: tuple[Path, Path], rolled: Rolled, tmp_path: Path
) -> None:
    first, second = train_by_trl(case, folders, rolled, tmp_path)
    report = train_ours(case, folders, rolled, num_updates=1)
    assert report.loss == pytest.approx(first["loss"], rel=2e-5, abs=1e-6)
    assert report.grad_norm == pytest.approx(first["grad_norm"], rel=2e-5)
    assert report.entropy == pytest.approx(first["entropy"], rel=2e-5)
    assert report.clip_share == first[count_name(case)] == 0.0
    if case.make_phase().loss.kl_coef:
        assert report.kl > 1e-3
        assert report.kl == pytest.approx(first["kl"], rel=2e-5)

    both = train_ours(case, folders, rolled, num_updates=2)
    assert both.loss == pytest.approx((first["loss"] + second["loss"]) / 2, rel=1e-4, abs=1e-5)
    assert both.grad_norm == pytest.approx((first["grad_norm"] + second["grad_norm"]) / 2, rel=1e-4)
    assert both.clip_share > 0
    settings = case.make_phase().loss
    # Of sequence ratios, TRL counts sequences and ours their tokens. It counts neither the tokens that the dual clip
    # stops, nor weights that cispo has changed where the advantage is negative.
    if settings.ratio == "token" and settings.objective == "clipped" and not settings.dual_clip:
        assert both.clip_share == pytest.approx(second[count_name(case)] / 2, rel=1e-6)


def count_name(case: Case) -> str:
    return "cispo_clip_ratio" if case.make_phase().loss.objective == "cispo" else "clip_ratio/region_mean"


def train_ours(case: Case, folders: tuple[Path, Path], rolled: Rolled, *, num_updates: int) -> UpdateReport:
    reference, policy = (
        load_policy(ModelSettings(source=str(folder), device="cpu", dtype="float32", gradient_checkpointing=False))
        for folder in folders
    )
    groups = [
        Group(
            sample=Sample(id=text, image=MemoryImage(images[0]), question=text),
            role="reasoner",
            prompt=encode(policy, text, images),
            rollouts=tuple(
                Rollout(token_ids, ended=token_ids[-1] == rolled.end, text="", trace=None, reward=reward, terms={})
                for token_ids, reward in zip(replies, rewards, strict=True)
            ),
        )
        for text, images, replies, rewards in zip(rolled.texts, rolled.images, rolled.replies, REWARDS, strict=True)
    ]
    phase = case.make_phase(num_updates)
    optimizer = Optimizer(policy.trainable, phase.optimizer, World())
    learner = Learner(phase, policy, take_snapshot(reference, batch_size=1), optimizer, World())
    report = learn_step(learner, groups, RATE).report
    assert report is not None
    return report


def encode(policy: Policy, text: str, images: Sequence[Image.Image]) -> EncodedPrompt:
    return policy.encoder.encode(Prompt("reasoner", SYSTEM, text, tuple(images), "none"))


def train_by_trl(case: Case, folders: tuple[Path, Path], rolled: Rolled, output: Path) -> tuple[Figures, Figures]:
    """What TRL logs of two optimizer steps on one batch."""
    import datasets
    from trl import GRPOConfig, GRPOTrainer

    reference, policy = folders
    group_size = len(REWARDS[0])
    config = GRPOConfig(
        output_dir=str(output),
        num_generations=group_size,
        per_device_train_batch_size=len(REWARDS) * group_size,
        max_completion_length=MAX_NEW_TOKENS,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        max_steps=2,
        shuffle_dataset=False,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **map_settings(case.make_phase(num_updates=2)),
    )
    model = Qwen3VLForConditionalGeneration.from_pretrained(policy, dtype=torch.float32)
    model.config._name_or_path = str(reference)  # where TRL loads the reference from
    rows = {
        "prompt": [[{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}] for text in rolled.texts],
        "images": [list(images) for images in rolled.images],
    }
    encoder = load_policy(ModelSettings(source=str(policy), device="cpu", dtype="float32"))
    prompt_ids = [
        list(encode(encoder, text, images).token_ids) for text, images in zip(rolled.texts, rolled.images, strict=True)
    ]

    def give_replies(prompts: Sequence[object], trainer: GRPOTrainer) -> dict[str, object]:
        assert len(prompts) == len(REWARDS) * group_size
        return {
            "prompt_ids": [ids for ids in prompt_ids for _ in range(group_size)],
            "completion_ids": [list(reply) for replies in rolled.replies for reply in replies],
            "logprobs": None,
        }

    def give_rewards(completions: Sequence[object], **_: object) -> list[float]:
        return [reward for rewards in REWARDS for reward in rewards]

    trainer = GRPOTrainer(
        model=model,
        reward_funcs=give_rewards,
        args=config,
        train_dataset=datasets.Dataset.from_dict(rows).cast_column("images", datasets.Sequence(datasets.Image())),
        processing_class=AutoProcessor.from_pretrained(policy, padding_side="left"),
        rollout_func=give_replies,
    )
    trainer.train()
    first, second = (row for row in trainer.state.log_history if "grad_norm" in row)
    return first, second
