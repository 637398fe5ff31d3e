"""`python -m verl.trainer.main_ppo`, without learning anything. What it does is told by VERL_STAND_IN, a JSON object:

fails: why the rollouts of every row fail. lost: rows of each step without a record. dies_after: the step after which
it is killed. waits: whether it never ends.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from p2r.config import AdvantageSettings
from p2r.models.local.encoding import EncodedPrompt
from p2r.training.advantages import compare_groups
from p2r.training.engines.verl.job import Job, Record, hand_over, records_of, take_over
from p2r.training.groups import Group, Rollout, RolloutStats
from p2r.training.watch.metrics import describe_groups, quote_group

told = json.loads(os.environ.get("VERL_STAND_IN", "{}"))
given = {name.lstrip("+"): value for name, _, value in (each.partition("=") for each in sys.argv[1:])}


def value_of(name: str) -> object:
    """As hydra reads it, where it is JSON as well."""
    return json.loads(given[name])


path = Path(str(value_of("data.train_files")))
job = take_over(path, Job)
size, num_steps = int(value_of("actor_rollout_ref.rollout.n")), int(value_of("trainer.total_training_steps"))
resume_from = value_of("trainer.resume_from_path")
first = int(Path(str(resume_from)).name.removeprefix("global_step_")) if resume_from else 0
(path.parent / f"started-{first}.json").write_text(json.dumps(given | {"evidence": sorted(job.evidence)}))


def roll_out(place: int) -> Record:
    failure = told.get("fails", "")
    rewards = [None if failure else float((place + number) % 2) for number in range(size)]
    rollouts = tuple(Rollout((5, 6), True, "boxes", None, reward, {}, failure) for reward in rewards)
    group = Group(job.rows[place], "perceiver", EncodedPrompt((1,), (), (), ()), rollouts)
    stats = RolloutStats(num_rows=1)
    for rollout in rollouts:
        stats.count(rollout)
    compared = compare_groups([group], AdvantageSettings())
    return Record([failure] * size, describe_groups(compared), stats, quote_group(job.phase.name, step, compared[0]))


log = Path(str(value_of("ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH"))).open("wb", buffering=0)  # noqa: SIM115  # for as long as it runs
for step in range(first + 1, num_steps + 1):
    num = job.phase.prompts_per_step
    for place in range((step - 1) * num, step * num - int(told.get("lost", 0))):
        hand_over(records_of(path, step) / f"{place:06d}.pickle", roll_out(place))
    if step % int(value_of("trainer.save_freq")) == 0 or step == num_steps:
        (path.parent / f"global_step_{step}" / "actor").mkdir(parents=True, exist_ok=True)
    data = {
        "actor/pg_loss": 0.25,
        "actor/grad_norm": 0.5,
        "actor/lr": 1e-3,
        "actor/kl_loss": 0.125,
        "timing_s/step": 2.0,
    }
    log.write(json.dumps({"step": step, "data": data | {"timing_s/gen": 1.5}}).encode() + b"\n")
    if step == told.get("dies_after"):
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
print("the stand-in has taken its steps", flush=True)
while told.get("waits"):
    time.sleep(0.1)
