"""A phase of a recipe as overrides of the settings of verl 0.9.1. What verl cannot do is refused, never left out."""

from __future__ import annotations

import json
import math
from pathlib import Path

from p2r.config import PartnerSettings, Phase, Recipe
from p2r.errors import ConfigError, count_nouns
from p2r.training.engines.verl.job import Job
from p2r.training.partner import is_copy_asked, is_partner_asked
from p2r.training.rewards.captions import find_captions

AGENT, LOOPS = "p2r", "pkg://p2r.training.engines.verl.loops"
LOG_FILE = "verl.jsonl"
EPS = 1e-6
REDUCTIONS = {"token-mean": "token-mean", "sequence-mean": "seq-mean-token-mean", "dr-grpo": "seq-mean-token-sum-norm"}
MODEL, ACTOR, REF, SAMPLER = (f"actor_rollout_ref.{part}" for part in ("model", "actor", "ref", "rollout"))


def partner_settings(recipe: Recipe, phase: Phase) -> PartnerSettings:
    """Tell how a phase reaches the frozen role; the default, a local one that nobody asks, where it needs none."""
    return recipe.partner if _asks_partner(recipe, phase) else PartnerSettings()


def _asks_partner(recipe: Recipe, phase: Phase) -> bool:
    return is_partner_asked(recipe, phase) or is_copy_asked(recipe, phase)


def check_recipe(recipe: Recipe, num_gpus: int = 1) -> None:
    """Refuse what verl cannot do on so many GPUs. Raises ConfigError."""
    for phase in recipe.phases():
        for setting, (is_asked, why) in _list_limits(recipe, phase, num_gpus).items():
            if is_asked:
                raise ConfigError(
                    f"phase {phase.name} has {setting}, which verl cannot do: {why}",
                    hint="change the recipe, or leave out `engine`",
                )


def _list_limits(recipe: Recipe, phase: Phase, num_gpus: int) -> dict[str, tuple[bool, str]]:
    """Tell of each setting that verl cannot follow whether a phase has it, and why verl cannot."""
    if phase.kind == "sft":
        return {'method = "sft"': (True, "it learns from rewards alone")}
    loss, optimizer, kind = phase.loss, phase.optimizer, recipe.partner.kind
    size = phase.prompts_per_update * phase.rollout.group_size
    return {
        f"{count_nouns(size, 'rollout')} in an update": (size % num_gpus > 0, f"{num_gpus} GPUs cannot share them"),
        f'partner.kind = "{kind}"': (kind != "endpoint" and _asks_partner(recipe, phase), "its workers need a URL"),
        "model.lora": (recipe.model.lora is not None, "adapters are not handed on to the next phase"),
        "freeze_vision": (phase.freeze_vision, "its own setting for it, freeze_vision_tower, is read by nothing"),
        "probe.source": (recipe.probe.source is not None, "ask the checkpoints by `p2r eval`"),
        "data.difficulty": (phase.data.difficulty is not None, "choose rows by `p2r sample` first"),
        "reward.caption": (find_captions(phase) is not None, "each worker would load the model"),
        'rollout.engine = "vllm"': (phase.rollout.engine == "vllm", "it samples by vLLM anyway, in its own workers"),
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
    job: Job, path: Path, *, nodes: int = 1, gpus: int = 1, resume_from: Path | None = None
) -> list[str]:
    """Tell verl to train a phase.

    Args:
        path: the job's file, beside which verl keeps its checkpoints and its log.
        nodes, gpus: machines, and GPUs of each.
        resume_from: a checkpoint of verl's, to continue.
    """
    recipe, phase, num_steps = job.recipe, job.phase, job.num_steps
    loss, optimizer, rollout = phase.loss, phase.optimizer, phase.rollout
    prompt, reply = max(phase.data.max_prompt_tokens.of(role) for role in phase.roles), phase.max_response_tokens
    share = phase.prompts_per_update * rollout.group_size // (nodes * gpus)  # rollouts of an update for each GPU
    micro_batch = math.gcd(optimizer.micro_batch_groups * rollout.group_size, share)  # verl wants whole ones
    warmup = max(optimizer.warmup_steps, math.ceil(optimizer.warmup_share * num_steps))
    mode = "gspo" if loss.ratio == "sequence" else "cispo" if loss.objective == "cispo" else "vanilla"
    told = f"""
    algorithm.adv_estimator=grpo algorithm.norm_adv_by_std_in_grpo={phase.advantage.std != "none"}
    data.custom_cls.path={LOOPS} data.custom_cls.name=VerlRows data.shuffle=False data.dataloader_num_workers=0
    data.train_batch_size={phase.prompts_per_step} data.max_prompt_length={prompt} data.max_response_length={reply}
    {MODEL}.enable_gradient_checkpointing={recipe.model.gradient_checkpointing}
    {ACTOR}.strategy=fsdp2 {ACTOR}.ppo_epochs={optimizer.updates_per_batch}
    {ACTOR}.ppo_mini_batch_size={phase.prompts_per_update} {ACTOR}.ppo_micro_batch_size_per_gpu={micro_batch}
    {ACTOR}.clip_ratio_low={loss.clip_low} {ACTOR}.clip_ratio_high={loss.clip_high}
    {ACTOR}.clip_ratio_c={loss.dual_clip or 1e9} {ACTOR}.policy_loss.loss_mode={mode}
    {ACTOR}.loss_agg_mode={REDUCTIONS[loss.reduction]} {ACTOR}.loss_scale_factor={reply}
    {ACTOR}.use_kl_loss={loss.kl_coef > 0} {ACTOR}.kl_loss_coef={loss.kl_coef} {ACTOR}.kl_loss_type=low_var_kl
    {ACTOR}.optim.lr={phase.lr} {ACTOR}.optim.betas=[{optimizer.betas[0]},{optimizer.betas[1]}]
    {ACTOR}.optim.weight_decay={optimizer.weight_decay} {ACTOR}.optim.clip_grad={optimizer.grad_clip}
    {ACTOR}.optim.lr_scheduler_type={optimizer.scheduler} {ACTOR}.optim.lr_warmup_steps={warmup}
    {ACTOR}.fsdp_config.reshard_after_forward={optimizer.reshard}
    {ACTOR}.fsdp_config.optimizer_offload={optimizer.kind == "offload"}
    {REF}.log_prob_micro_batch_size_per_gpu={micro_batch} {SAMPLER}.log_prob_micro_batch_size_per_gpu={micro_batch}
    {SAMPLER}.name=vllm {SAMPLER}.tensor_model_parallel_size=1 {SAMPLER}.max_model_len={prompt + reply}
    {SAMPLER}.n={rollout.group_size} {SAMPLER}.temperature={rollout.temperature} {SAMPLER}.top_p={rollout.top_p}
    {SAMPLER}.seed={recipe.seed} trainer.nnodes={nodes} trainer.n_gpus_per_node={gpus}
    trainer.device={recipe.model.device or "cuda"} trainer.logger=[console,file]
    trainer.project_name=p2r trainer.experiment_name={phase.name}
    trainer.total_epochs=1 trainer.total_training_steps={num_steps} trainer.test_freq=-1 trainer.val_before_train=False
    trainer.save_freq={recipe.checkpoint.every} trainer.max_actor_ckpt_to_keep={recipe.checkpoint.keep_last + 1}
    trainer.resume_mode={"resume_path" if resume_from else "disable"}
    """.split()
    if recipe.model.dtype == "float32":
        told.append(f"{SAMPLER}.dtype=float32")
        for engine in (f"{ACTOR}.fsdp_config", f"{REF}.fsdp_config"):
            told += [f"{engine}.dtype=float32", f"+{engine}.mixed_precision.param_dtype=fp32"]
    paths = {
        "data.train_files": path,
        "data.val_files": path,
        f"{MODEL}.path": job.source,
        "trainer.default_local_dir": path.parent,
        "trainer.resume_from_path": resume_from,
        "+ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH": path.with_name(LOG_FILE),
    }
    return [*told, *(f"{name}={json.dumps(place, default=str)}" for name, place in paths.items())]
