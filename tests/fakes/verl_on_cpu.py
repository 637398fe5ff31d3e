"""The environment of verl, and what verl needs on a CPU: the plugins of tests/integration/verl_env, and settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "integration" / "verl_env"
PYTHON = Path(os.environ.get("P2R_VERL", Path(sys.prefix) / "verl")) / "bin/python"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_gcs_server_request_timeout_seconds": "600",
    "RAY_enable_worker_prestart": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_register_timeout_seconds": "900",
    "TOKENIZERS_PARALLELISM": "false",
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "cpu_platform",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}
PART = "actor_rollout_ref"
SETTINGS = (
    f"+{PART}.model.override_config.attn_implementation=sdpa",
    f"{PART}.model.use_remove_padding=False",
    f"{PART}.actor.use_torch_compile=False",
    f"{PART}.actor.fsdp_config.use_torch_compile=False",
    f"{PART}.ref.fsdp_config.use_torch_compile=False",
    f"{PART}.rollout.max_num_seqs=16",
    f"{PART}.rollout.enforce_eager=True",
    f"{PART}.rollout.free_cache_engine=False",
    f"+{PART}.rollout.enable_sleep_mode=False",
    f"{PART}.rollout.max_num_batched_tokens=2048",
    f"{PART}.rollout.checkpoint_engine.update_weights_bucket_megabytes=64",
    f"{PART}.rollout.agent.num_workers=1",
    f"+{PART}.rollout.engine_kwargs.vllm.worker_extension_cls=cpu_worker.CpuWorkerExtension",
    "reward.num_workers=1",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    "ray_kwargs.ray_init.num_cpus=32",
    "+ray_kwargs.ray_init.num_gpus=2",
    "+ray_kwargs.ray_init.include_dashboard=false",
    "+ray_kwargs.ray_init.object_store_memory=600000000",
)
ENGINE_ARGUMENTS = [part for each in SETTINGS for part in ("--engine-arg", each)]
PATHS = ":".join(map(str, (SCRIPTS, ROOT / "src", ROOT)))
ENVIRONMENT = os.environ | QUIET | {"PYTHONPATH": PATHS}
