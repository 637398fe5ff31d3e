"""A phase of a recipe as overrides of the settings of verl 0.9.1. What verl cannot do is refused, never left out."""

from __future__ import annotations

import json
import math

from p2r.config import Phase, Recipe
from p2r.errors import ConfigError, count_nouns
from p2r.training.engines.verl.job import JOB_FILE, LOG_FILE, Job, is_anyone_asked
from p2r.training.rewards.captions import find_captions

AGENT, LOOPS = "p2r", "pkg://p2r.training.engines.verl.loops"
EPS = 1e-6
REDUCTIONS = {"token-mean": "token-mean", "sequence-mean": "seq-mean-token-mean", "dr-grpo": "seq-mean-token-sum-norm"}
MODEL, ACTOR, REF, SAMPLER = (f"actor_rollout_ref.{part}" for part in ("model", "actor", "ref", "rollout"))


def check_recipe(recipe: Recipe, num_gpus: int = 1) -> None:
    """Refuse what verl cannot do on so many GPUs. Raises ConfigError."""
    for phase in recipe.phases():
        for setting, (is_asked, why) in _list_limits(recipe, phase, num_gpus).items():
            if is_asked:
                said = f"phase {phase.name} has {setting}, which verl cannot do: {why}"
                raise ConfigError(said, hint="change the recipe, or leave out `engine`")


def _list_limits(recipe: Recipe, phase: Phase, num_gpus: int) -> dict[str, tuple[bool, str]]:
    """Tell of each setting that verl cannot follow whether a phase has it, and why verl cannot."""
    if phase.kind == "sft":
        return {'method = "sft"': (True, "it learns from rewards alone")}
    loss, optimizer, kind = phase.loss, phase.optimizer, recipe.partner.kind
    size = phase.prompts_per_update * phase.rollout.group_size
    return {
        f"{count_nouns(size, 'rollout')} in an update": (size % num_gpus > 0, f"{num_gpus} GPUs cannot share them"),
        f'partner.kind = "{kind}"': (kind != "endpoint" and is_anyone_asked(recipe, phase), "its workers need a URL"),
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


def make_overrides(job: Job, *, nodes: int = 1, gpus: int = 1) -> list[str]:
    """Tell verl to train a phase. nodes, gpus: machines, and GPUs of each."""
    recipe, phase = job.recipe, job.phase
    loss, optimizer, rollout = phase.loss, phase.optimizer, phase.rollout
    prompt, reply = max(phase.data.max_prompt_tokens.of(role) for role in phase.roles), phase.max_response_tokens
    share = phase.prompts_per_update * rollout.group_size // (nodes * gpus)  # rollouts of an update for each GPU
    micro_batch = math.gcd(optimizer.micro_batch_groups * rollout.group_size, share)  # verl wants whole ones
    mode = "gspo" if loss.ratio == "sequence" else "cispo" if loss.objective == "cispo" else "vanilla"
    dtype = recipe.model.dtype or "bfloat16"
    told = f"""
    algorithm.adv_estimator=grpo algorithm.norm_adv_by_std_in_grpo={phase.advantage.std != "none"}
    data.custom_cls.path={LOOPS} data.custom_cls.name=VerlRows data.shuffle=False data.dataloader_num_workers=0
    data.train_batch_size={phase.prompts_per_step} data.max_prompt_length={prompt} data.max_response_length={reply}
    {MODEL}.enable_gradient_checkpointing={recipe.model.gradient_checkpointing}
    {ACTOR}.strategy=fsdp2 {ACTOR}.fsdp_config.dtype={dtype} {REF}.fsdp_config.dtype={dtype} {SAMPLER}.dtype={dtype}
    +{ACTOR}.fsdp_config.mixed_precision.param_dtype={dtype} +{REF}.fsdp_config.mixed_precision.param_dtype={dtype}
    {ACTOR}.fsdp_config.reshard_after_forward={optimizer.reshard}
    {ACTOR}.fsdp_config.optimizer_offload={optimizer.kind == "offload"}
    {ACTOR}.ppo_epochs={optimizer.updates_per_batch} {ACTOR}.ppo_mini_batch_size={phase.prompts_per_update}
    {ACTOR}.ppo_micro_batch_size_per_gpu={micro_batch} {REF}.log_prob_micro_batch_size_per_gpu={micro_batch}
    {SAMPLER}.log_prob_micro_batch_size_per_gpu={micro_batch} {SAMPLER}.tensor_model_parallel_size=1
    {ACTOR}.clip_ratio_low={loss.clip_low} {ACTOR}.clip_ratio_high={loss.clip_high}
    {ACTOR}.clip_ratio_c={loss.dual_clip or 1e9} {ACTOR}.policy_loss.loss_mode={mode}
    {ACTOR}.loss_agg_mode={REDUCTIONS[loss.reduction]} {ACTOR}.loss_scale_factor={reply}
    {ACTOR}.use_kl_loss={loss.kl_coef > 0} {ACTOR}.kl_loss_coef={loss.kl_coef}
    {ACTOR}.optim.lr={phase.lr} {ACTOR}.optim.betas=[{optimizer.betas[0]},{optimizer.betas[1]}]
    {ACTOR}.optim.weight_decay={optimizer.weight_decay} {ACTOR}.optim.clip_grad={optimizer.grad_clip}
    {ACTOR}.optim.lr_scheduler_type={optimizer.scheduler}
    {ACTOR}.optim.lr_warmup_steps={optimizer.count_warmup_steps(job.num_steps)}
    {SAMPLER}.name=vllm {SAMPLER}.seed={recipe.seed} {SAMPLER}.max_model_len={prompt + reply}
    {SAMPLER}.n={rollout.group_size} {SAMPLER}.temperature={rollout.temperature} {SAMPLER}.top_p={rollout.top_p}
    trainer.nnodes={nodes} trainer.n_gpus_per_node={gpus} trainer.device={recipe.model.device or "cuda"}
    trainer.logger=[console,file] trainer.project_name=p2r trainer.experiment_name={phase.name}
    trainer.total_training_steps={job.num_steps} trainer.val_before_train=False
    trainer.save_freq={recipe.checkpoint.every} trainer.max_actor_ckpt_to_keep={recipe.checkpoint.keep_last + 1}
    trainer.resume_mode={"resume_path" if job.num_done else "disable"}
    """.split()
    paths = {
        "data.train_files": job.folder / JOB_FILE,
        f"{MODEL}.path": job.source,
        "trainer.default_local_dir": job.folder,
        "trainer.resume_from_path": job.checkpoint(job.num_done) if job.num_done else None,
        "+ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH": job.folder / LOG_FILE,
    }
    return [*told, *(f"{name}={json.dumps(place, default=str)}" for name, place in paths.items())]
