"""Composes the overrides of each phase by verl's own hydra configuration; prints what verl understands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hydra import compose, initialize_config_module
from verl.utils.config import validate_config

from p2r.config import load_recipe
from p2r.training.engines.verl.job import Job
from p2r.training.engines.verl.overrides import check_recipe, make_overrides
from tests.fakes.training import make_sample

recipe = load_recipe(sys.argv[1], sys.argv[2:])
check_recipe(recipe, 16)
found = []
for phase in recipe.phases():
    rows = [make_sample()] * phase.prompts_per_step * 156
    overrides = make_overrides(Job(recipe, phase, Path("/run"), Path("/a model/x=y"), rows), nodes=2, gpus=8)
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=overrides)
    validate_config(config, use_reference_policy=True, use_critic=False)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    found.append(
        {
            "path": config.actor_rollout_ref.model.path,
            "lr": actor.optim.lr,
            "betas": list(actor.optim.betas),
            "clip": [actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c],
            "kl": [actor.use_kl_loss, actor.kl_loss_coef, actor.kl_loss_type],
            "mini_batch": actor.ppo_mini_batch_size,
            "micro_batch": actor.ppo_micro_batch_size_per_gpu,
            "n": rollout.n,
            "lengths": [rollout.prompt_length, rollout.response_length, rollout.max_model_len],
            "steps": config.trainer.total_training_steps,
        }
    )
print(json.dumps(found))
