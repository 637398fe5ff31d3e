"""A phase of a recipe as overrides of the settings of verl 0.9.1. What verl cannot do is refused, never left out."""

from __future__ import annotations

import json
import math
from pathlib import Path

from p2r.config import PartnerSettings, Phase, Recipe
from p2r.errors import ConfigError
from p2r.training.partner import is_partner_asked
from p2r.training.rewards.captions import find_captions

AGENT, LOOPS = "p2r", "pkg://p2r.training.engines.verl.loops"
LOG_FILE = "verl.jsonl"
EPS = 1e-6
LOSS_MODES = {"clipped": "vanilla", "cispo": "cispo"}
REDUCTIONS = {"token-mean": "token-mean", "sequence-mean": "seq-mean-token-mean", "dr-grpo": "seq-mean-token-sum-norm"}
MODEL, ACTOR, REF, SAMPLER = (f"actor_rollout_ref.{part}" for part in ("model", "actor", "ref", "rollout"))
ALWAYS = f"""
algorithm.adv_estimator=grpo {ACTOR}.strategy=fsdp2 {ACTOR}.kl_loss_type=low_var_kl {SAMPLER}.name=vllm
{SAMPLER}.tensor_model_parallel_size=1 data.custom_cls.path={LOOPS} data.custom_cls.name=VerlRows data.shuffle=false
data.dataloader_num_workers=0 trainer.project_name=p2r trainer.logger=[console,file] trainer.total_epochs=1
trainer.test_freq=-1 trainer.val_before_train=false
""".split()


def partner_settings(recipe: Recipe, phase: Phase) -> PartnerSettings:
    """How a phase reaches the frozen role; the default, a local one that nobody asks, where it needs none."""
    is_asked = is_partner_asked(recipe, phase) or phase.reward.judge == "partner"
    return recipe.partner if is_asked else PartnerSettings()


def check_recipe(recipe: Recipe) -> None:
    """Refuse what verl cannot do. Raises ConfigError."""
    for phase in recipe.phases():
        limits = (
            _list_limits(recipe, phase) if phase.roles else {'method = "sft"': (True, "it learns from rewards alone")}
        )
        for setting, (is_asked, why) in limits.items():
            if is_asked:
                raise ConfigError(
                    f"phase {phase.name} has {setting}, which verl cannot do: {why}",
                    hint="change the recipe, or leave out `engine`",
                )


def _list_limits(recipe: Recipe, phase: Phase) -> dict[str, tuple[bool, str]]:
    """By setting, whether a phase has it, and why verl cannot do it."""
    loss, optimizer = phase.loss, phase.optimizer
    is_asked = is_partner_asked(recipe, phase) or phase.reward.judge == "partner"
    return {
        'partner.kind = "local"': (recipe.partner.kind == "local" and is_asked, "its workers need a URL"),
        "model.lora": (recipe.model.lora is not None, "adapters are not handed on to the next phase"),
        "freeze_vision": (phase.freeze_vision, "its own setting for it, freeze_vision_tower, is read by nothing"),
        "probe.source": (recipe.probe.source is not None, "ask the checkpoints by `p2r eval`"),
        "data.difficulty": (phase.data.difficulty is not None, "choose rows by `p2r sample` first"),
        "reward.caption": (find_captions(phase) is not None, "each worker would load the model"),
        "rollout.dynamic_sampling": (phase.rollout.dynamic_sampling, "it draws rows without a limit of rounds"),
        'advantage.std = "population"': (phase.advantage.std == "population", "it has the one of a sample"),
        f"advantage.eps = {phase.advantage.eps:g}": (phase.advantage.eps != EPS, f"it has {EPS:g}"),
        "loss.clamp = false": (not loss.clamp, "it clamps"),
        "loss.resting_kl_coef": (loss.resting_kl_coef > 0, "it has no such term"),
        "loss.importance_cap": (loss.importance_cap > 0, "its corrections were not compared with ours"),
        "loss.mask_truncated": (loss.mask_truncated, "it learns from them"),
        'optimizer.kind = "adamw8bit"': (optimizer.kind == "adamw8bit", "take adamw or offload"),
        'optimizer.scheduler = "linear"': (optimizer.scheduler == "linear", "take constant or cosine"),
        "optimizer.reduce_once": (optimizer.reduce_once, "it adds gradients up for each micro-batch"),
    }


def make_overrides(
    recipe: Recipe, phase: Phase, source: Path, job: Path, num_steps: int, resume_from: Path | None = None
) -> list[str]:
    """What tells verl to train a phase, but not on which machines.

    Args:
        source: the checkpoint to start from.
        job: the file for the workers, beside which verl keeps its checkpoints and its log.
        resume_from: a checkpoint of verl's, to continue.
    """
    loss, optimizer, rollout = phase.loss, phase.optimizer, phase.rollout
    prompt, reply = max(phase.data.max_prompt_tokens.of(role) for role in phase.roles), phase.max_response_tokens
    micro_batch = optimizer.micro_batch_groups * rollout.group_size
    values: dict[str, object] = {
        "algorithm.norm_adv_by_std_in_grpo": phase.advantage.std != "none",
        "data.train_files": job,
        "data.val_files": job,
        "data.train_batch_size": phase.prompts_per_step,
        "data.max_prompt_length": prompt,
        "data.max_response_length": reply,
        f"{MODEL}.path": source,
        f"{MODEL}.enable_gradient_checkpointing": recipe.model.gradient_checkpointing,
        f"{ACTOR}.ppo_mini_batch_size": phase.prompts_per_update,
        f"{ACTOR}.ppo_micro_batch_size_per_gpu": micro_batch,
        f"{ACTOR}.ppo_epochs": optimizer.updates_per_batch,
        f"{ACTOR}.clip_ratio_low": loss.clip_low,
        f"{ACTOR}.clip_ratio_high": loss.clip_high,
        f"{ACTOR}.clip_ratio_c": loss.dual_clip or 1e9,
        f"{ACTOR}.policy_loss.loss_mode": "gspo" if loss.ratio == "sequence" else LOSS_MODES[loss.objective],
        f"{ACTOR}.loss_agg_mode": REDUCTIONS[loss.reduction],
        f"{ACTOR}.loss_scale_factor": reply,
        f"{ACTOR}.use_kl_loss": loss.kl_coef > 0,
        f"{ACTOR}.kl_loss_coef": loss.kl_coef,
        f"{ACTOR}.optim.lr": phase.lr,
        f"{ACTOR}.optim.betas": list(optimizer.betas),
        f"{ACTOR}.optim.weight_decay": optimizer.weight_decay,
        f"{ACTOR}.optim.clip_grad": optimizer.grad_clip,
        f"{ACTOR}.optim.lr_scheduler_type": optimizer.scheduler,
        f"{ACTOR}.optim.lr_warmup_steps": max(optimizer.warmup_steps, math.ceil(optimizer.warmup_share * num_steps)),
        f"{ACTOR}.fsdp_config.reshard_after_forward": optimizer.reshard,
        f"{ACTOR}.fsdp_config.optimizer_offload": optimizer.kind == "offload",
        f"{REF}.log_prob_micro_batch_size_per_gpu": micro_batch,
        f"{SAMPLER}.log_prob_micro_batch_size_per_gpu": micro_batch,
        f"{SAMPLER}.n": rollout.group_size,
        f"{SAMPLER}.seed": recipe.seed,
        f"{SAMPLER}.temperature": rollout.temperature,
        f"{SAMPLER}.top_p": rollout.top_p,
        f"{SAMPLER}.max_model_len": prompt + reply,
        "trainer.device": recipe.model.device or "cuda",
        "trainer.experiment_name": phase.name,
        "trainer.default_local_dir": job.parent,
        "trainer.total_training_steps": num_steps,
        "trainer.save_freq": recipe.checkpoint.every,
        "trainer.max_actor_ckpt_to_keep": recipe.checkpoint.keep_last + 1,
        "trainer.resume_mode": "resume_path" if resume_from else "disable",
        "trainer.resume_from_path": resume_from,
        "+ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH": job.with_name(LOG_FILE),
    }
    if recipe.model.dtype == "float32":
        values[f"{SAMPLER}.dtype"] = "float32"
        for engine in (f"{ACTOR}.fsdp_config", f"{REF}.fsdp_config"):
            values |= {f"{engine}.dtype": "float32", f"+{engine}.mixed_precision.param_dtype": "fp32"}
    return [*ALWAYS, *(f"{name}={json.dumps(value, default=str)}" for name, value in values.items())]
