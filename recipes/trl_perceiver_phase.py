"""A perceiver phase in TRL's own GRPOTrainer: our rows, prompts, walk and reward; sampling, loss and update are TRL's.

    pip install '.[train]' trl==1.16.0 torchvision
    python -m recipes.trl_perceiver_phase nano --set schedule.0.steps=2 --set out=runs/trl
    torchrun --nproc-per-node 2 -m recipes.trl_perceiver_phase RECIPE.toml

It trains the first phase of a recipe, and leaves a checkpoint that p2r and transformers load. A script of
your own needs `PerceiverPhase`, whose `dataset` and `reward` fit any GRPOTrainer, and `map_settings`.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.utils import is_torchvision_available

from p2r.cli.guard import run_script
from p2r.config import Phase, Recipe, load_recipe
from p2r.errors import ConfigError, count_nouns, excerpt
from p2r.files import check_folder
from p2r.loop import run_blocking
from p2r.models.load import find_checkpoint
from p2r.models.local.backend import AutoModelForImageTextToText
from p2r.models.local.devices import choose_device
from p2r.models.local.encoding import PromptEncoder
from p2r.models.local.model import LocalModel
from p2r.prompts import load_prompt_set
from p2r.roles import perceiver_prompt
from p2r.training.asking import open_row
from p2r.training.engines.local.distributed import World, join_world
from p2r.training.engines.local.generate import Generated
from p2r.training.engines.local.policy import training_profile
from p2r.training.failures import FailureGauge
from p2r.training.groups import Asked, RolloutStats
from p2r.training.judging import Judging
from p2r.training.memo import Memo
from p2r.training.partner import Unasked, is_copy_asked, open_partner
from p2r.training.rewards.verifier import check_judges
from p2r.training.rollout import read_reply
from p2r.training.rows.choose import load_rows, order_rows

NOT_IN_TRL = (
    *("model.lora", "partner.launch", "data.difficulty", "rollout.engine", "rollout.dynamic_sampling"),
    *("advantage.std", "loss.resting_kl_coef", "loss.importance_cap", "optimizer.kind", "optimizer.mini_batch_prompts"),
)
"""Settings that a phase in TRL cannot have, apart from these values: nothing, the usual optimizer and deviation."""
USABLE = (None, False, 0, "local", "adamw", "sample", "none")
REDUCTIONS = {"token-mean": "dapo", "sequence-mean": "grpo", "dr-grpo": "dr_grpo"}
SCHEDULERS = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def choose_phase(recipe: Recipe) -> tuple[Recipe, Phase]:
    """The recipe with its first phase alone. Raises ConfigError for one that TRL cannot train here."""
    recipe = recipe.model_copy(update={"schedule": recipe.schedule[:1], "iterations": 1})
    phase = recipe.phases()[0]
    if phase.kind != "perceiver":
        raise ConfigError(f"the first phase is {phase.name}", hint='begin with one of { role = "perceiver" }')
    for name in NOT_IN_TRL:
        table, setting = name.split(".")
        value = getattr(getattr(phase if hasattr(phase, table) else recipe, table), setting)
        if value not in USABLE:
            raise ConfigError(f"{name} is {excerpt(value)}, which a phase in TRL cannot have", hint=f"leave out {name}")
    return recipe, phase


class PerceiverPhase:
    """Rows and rewards of a phase. Raises P2RError when the rows, the model or the frozen role cannot be used.

    world: the processes that stop together when too much fails.
    """

    name = "policy"

    def __init__(self, recipe: Recipe, phase: Phase, world: World | None = None) -> None:
        run_blocking(check_judges(recipe))
        checkpoint, self._prompts = find_checkpoint(phase.base), load_prompt_set(phase.rollout.prompts)
        self.samples = load_rows(recipe)[phase.index].rows
        self.profile = training_profile(checkpoint, recipe.model.max_pixels, recipe.model.frame)
        self._encoder = PromptEncoder(checkpoint)
        self.decode, local = self._encoder.decode, Unasked(self.profile)
        if is_copy_asked(recipe, phase):
            how = recipe.model.model_dump(include={"device", "dtype", "frame"})
            how |= {"max_pixels": self.profile.budget.max_pixels, "batch_size": recipe.partner.concurrency}
            local = LocalModel.load(checkpoint, **how)
        opening = open_partner(recipe.partner, local, checkpoint.folder, recipe.out)
        partner = run_blocking(AsyncExitStack().enter_async_context(opening))  # without `launch` there is no end to it
        self._failures, self._world = FailureGauge(recipe.partner.max_error_rate, then="start again"), world
        parts = (self._prompts, Memo(), self._failures, phase.rollout.group_size)
        self._judging = Judging(recipe, phase, partner, *parts)
        self._ask = lru_cache(phase.rollout.prompts_per_step)(self._make_prompt)  # TRL wants a row once for each reply

    def _make_prompt(self, number: int) -> tuple[Asked, dict[str, Any]]:
        """The prompt of a row, as p2r and as TRL knows it."""
        sample, image = open_row(self.samples[number])
        prompt = perceiver_prompt(self._prompts, sample, image, self.profile.budget)
        asked = Asked(sample.id, sample, image, prompt.images[0].size, self._encoder.encode(prompt))
        image.free()
        chat = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.text}]
        return asked, {"prompt": chat if prompt.system else chat[1:], "images": [*prompt.images], "row": number}

    def dataset(self) -> Any:  # noqa: ANN401  # datasets comes with TRL
        """The rows as a data set, whose images are loaded when they are wanted."""
        from datasets import Dataset

        def load(batch: dict[str, list[int]]) -> dict[str, list[object]]:
            rows = [self._ask(number)[1] for number in batch["row"]]
            return {name: [row[name] for row in rows] for name in rows[0]}

        return Dataset.from_dict({"row": [*range(len(self.samples))]}).with_transform(load)

    async def reward(self, row: list[int], completion_ids: list[list[int]], **_: object) -> list[float | None]:
        """The reward of each reply, group by group; None, which TRL masks, where it cannot be told.

        Raises:
            TooManyErrors: more of the latest replies than `partner.max_error_rate` could not be judged.
        """
        asked = [(await asyncio.to_thread(self._ask, number))[0] for number in row]
        drawn = [Generated(tuple(ids), ids[-1] in self._encoder.end_token_ids) for ids in completion_ids]
        replies = [read_reply(self, *pair) for pair in zip(asked, drawn, strict=True)]
        rollouts = await self._judging.judge(replies, RolloutStats())
        for one in asked:
            one.full_image.free()
        self._failures.check(self._world)
        return [rollout.reward for rollout in rollouts]


def map_settings(phase: Phase) -> dict[str, Any]:
    """The estimator and the optimizer of a phase in TRL's words. To a standard deviation TRL always adds 1e-4."""
    loss, optimizer, is_cispo = phase.loss, phase.optimizer, phase.loss.objective == "cispo"
    return {
        "loss_type": "cispo" if is_cispo else REDUCTIONS[loss.reduction],
        "importance_sampling_level": loss.ratio,
        "epsilon": loss.clip_low,
        "epsilon_high": loss.clip_high + is_cispo,
        "delta": loss.dual_clip or None,
        "beta": loss.kl_coef,
        "use_bias_correction_kl": False,
        "mask_truncated_completions": loss.mask_truncated,
        "scale_rewards": "none" if phase.advantage.std == "none" else "group",
        "num_iterations": optimizer.updates_per_batch,
        "optim": "adamw_torch",
        "adam_beta1": optimizer.betas[0],
        "adam_beta2": optimizer.betas[1],
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.grad_clip,
    }


def train(recipe: Recipe) -> Path:
    """Train the phase; returns the folder of its checkpoint. Also in each process that torchrun starts.

    Raises:
        P2RError: something cannot be used, or too much failed. Nothing is written then.
    """
    recipe, phase = choose_phase(recipe)
    out, rollout, optimizer = recipe.out / phase.name, phase.rollout, phase.optimizer
    check_folder(out)
    if out.exists():
        raise ConfigError(f"{out} exists already", hint="name another folder by out, or remove it")
    if not (find_spec("trl") and is_torchvision_available()):
        said = "TRL, or a torchvision that fits torch, is not installed"
        raise ConfigError(said, hint="pip install trl==1.16.0 torchvision")
    from transformers import AutoProcessor
    from trl import GRPOConfig, GRPOTrainer

    with join_world() as world:
        at_once = optimizer.micro_batch_groups * world.size
        if rollout.prompts_per_step % at_once:
            said = f"{count_nouns(rollout.prompts_per_step, 'prompt')} a step cannot be made in passes of {at_once}"
            hint = "make rollout.prompts_per_step a multiple of optimizer.micro_batch_groups and the processes"
            raise ConfigError(said, hint=hint)
        ours = PerceiverPhase(recipe, phase, world)
        num_rows = order_rows(phase, len(ours.samples)).num_rows  # they fill a step
        num_steps, is_cpu = phase.count_steps(num_rows), choose_device(recipe.model.device).type == "cpu"
        config = GRPOConfig(
            **map_settings(phase),
            **rollout.model_dump(include={"temperature", "top_p"}),
            learning_rate=phase.lr,
            lr_scheduler_type=SCHEDULERS[optimizer.scheduler],
            warmup_steps=optimizer.count_warmup_steps(num_steps) * optimizer.updates_per_batch,
            max_steps=num_steps * optimizer.updates_per_batch,
            per_device_train_batch_size=optimizer.micro_batch_groups * rollout.group_size,
            gradient_accumulation_steps=rollout.prompts_per_step // at_once,
            num_generations=rollout.group_size,
            max_completion_length=rollout.max_new_tokens.perceiver,
            gradient_checkpointing=recipe.model.gradient_checkpointing,
            seed=recipe.seed,
            use_cpu=is_cpu,
            bf16=not is_cpu,
            output_dir=str(recipe.out),
            save_strategy="no",
            logging_steps=1,
        )
        folder = find_checkpoint(phase.base).folder
        policy = AutoModelForImageTextToText.from_pretrained(folder, dtype="float32")
        policy.model.visual.requires_grad_(not phase.freeze_vision)
        processor = AutoProcessor.from_pretrained(folder, padding_side="left")
        trainer = GRPOTrainer(policy, ours.reward, config, ours.dataset(), processing_class=processor)
        trainer.train()
        trainer.save_model(str(out))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("recipe", help="the name of a recipe, such as nano, or the path of a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting of the recipe")
    arguments = parser.parse_args()
    print(train(load_recipe(arguments.recipe, arguments.set)))


if __name__ == "__main__":
    run_script(main)
