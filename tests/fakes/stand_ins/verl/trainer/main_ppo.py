"""`python -m verl.trainer.main_ppo`, without learning anything. What it does is told by VERL_STAND_IN, a JSON object:

record: the file that workers leave of each row. lost: rows of each step without one. dies_after: the step after which
it is killed. waits: whether it goes on for a minute after its last step. ends_in: the step that it gives up.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

told = json.loads(os.environ["VERL_STAND_IN"])
given = {name.lstrip("+"): value for name, _, value in (each.partition("=") for each in sys.argv[1:])}
folder = Path(json.loads(given["trainer.default_local_dir"]))
num_steps, num_rows = int(given["trainer.total_training_steps"]), int(given["data.train_batch_size"])
resume_from = json.loads(given["trainer.resume_from_path"])
first = int(Path(resume_from).name.removeprefix("global_step_")) if resume_from else 0
(folder / f"started-{first}.json").write_text(json.dumps(given))
log = Path(json.loads(given["ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH"]))
lines = b""
for step in range(first + 1, num_steps + 1):
    records = folder / "records" / f"{step:06d}"
    records.mkdir(parents=True, exist_ok=True)
    for place in range(num_rows - told.get("lost", 0)):
        shutil.copy(told["record"], records / f"{place:06d}.pickle")
    if step == told.get("ends_in"):
        sys.exit("selected terminal groups with no materializable trajectories")
    if step % int(given["trainer.save_freq"]) == 0 or step == num_steps:
        (folder / f"global_step_{step}" / "actor").mkdir(parents=True, exist_ok=True)
    data = {
        "actor/pg_loss": 0.25,
        "actor/grad_norm": 0.5,
        "actor/lr": 1e-3,
        "actor/kl_loss": 0.125,
        "actor/loss": 0.375,
        "actor/entropy": 1.25,
        "actor/pg_clipfrac": 0.0625,
        "training/rollout_probs_diff_mean": 1e-5,
        "training/rollout_probs_diff_max": 1e-4,
        "timing_s/step": 2.0,
    }
    lines += json.dumps({"step": step, "data": data | {"timing_s/gen": 1.5}}).encode() + b"\n"
    log.write_bytes(lines)
    if step == told.get("dies_after"):
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
deadline = time.monotonic() + 60
while told.get("waits") and time.monotonic() < deadline:
    time.sleep(0.1)
