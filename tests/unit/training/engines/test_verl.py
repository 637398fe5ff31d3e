"""verl as the engine of a run: what it is told and what not, and what a run makes of the files that it leaves."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2r.cli.app import app
from p2r.config import AdvantageSettings, Recipe, parse_recipe
from p2r.errors import ConfigError, P2RError, StorageError, TooManyErrors, TrainingError
from p2r.models.local.encoding import EncodedPrompt
from p2r.models.nano import CHECKPOINT
from p2r.runs.training import TrainingRun, read_training_run
from p2r.training import keeper
from p2r.training.advantages import compare_groups
from p2r.training.engines.verl import driver
from p2r.training.engines.verl.driver import Verl
from p2r.training.engines.verl.job import Job, Record, hand_over, take_over
from p2r.training.engines.verl.overrides import check_recipe, make_overrides
from p2r.training.groups import Group, Rollout, RolloutStats
from p2r.training.train import train
from p2r.training.watch.metrics import describe_groups, quote_group
from p2r.training.watch.watcher import Watcher
from tests.fakes.chat_server import chat_reply, serve
from tests.fakes.training import BOX, make_sample

ROOT = Path(__file__).parents[4]
STAND_INS = ROOT / "tests" / "fakes" / "stand_ins"
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "stub"}]}')
    def log_message(self, *_): pass
server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.timeout = 2
server.handle_request()
server.handle_request()
print("no more", flush=True)
sys.exit(3)
"""
"""A server that is gone after two requests."""


PHASES = ("0-perceiver", "1-reasoner")
TOLD = """
algorithm.adv_estimator=grpo algorithm.norm_adv_by_std_in_grpo=True
data.custom_cls.path=pkg://p2r.training.engines.verl.loops data.custom_cls.name=VerlRows
data.shuffle=False data.dataloader_num_workers=0 data.train_files="FOLDER/job.pickle"
data.train_batch_size=8 data.max_prompt_length=500 data.max_response_length=70
actor_rollout_ref.model.path="FOLDER/model" actor_rollout_ref.model.enable_gradient_checkpointing=True
actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.fsdp_config.dtype=float32
+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=float32
actor_rollout_ref.actor.fsdp_config.reshard_after_forward=False
actor_rollout_ref.actor.fsdp_config.optimizer_offload=False
actor_rollout_ref.actor.ppo_epochs=1 actor_rollout_ref.actor.ppo_mini_batch_size=4
actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8 actor_rollout_ref.actor.policy_loss.loss_mode=vanilla
actor_rollout_ref.actor.clip_ratio_low=0.2 actor_rollout_ref.actor.clip_ratio_high=0.2
actor_rollout_ref.actor.clip_ratio_c=3.0
actor_rollout_ref.actor.loss_agg_mode=token-mean actor_rollout_ref.actor.loss_scale_factor=70
actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef=0.05
actor_rollout_ref.actor.optim.lr=3e-06 actor_rollout_ref.actor.optim.betas=[0.9,0.999]
actor_rollout_ref.actor.optim.weight_decay=0.01 actor_rollout_ref.actor.optim.clip_grad=1.0
actor_rollout_ref.actor.optim.lr_scheduler_type=constant actor_rollout_ref.actor.optim.lr_warmup_steps=3
actor_rollout_ref.ref.fsdp_config.dtype=float32
+actor_rollout_ref.ref.fsdp_config.mixed_precision.param_dtype=float32
actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=8
actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.dtype=float32
actor_rollout_ref.rollout.tensor_model_parallel_size=1 actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8
actor_rollout_ref.rollout.max_model_len=570 actor_rollout_ref.rollout.n=4 actor_rollout_ref.rollout.seed=5
actor_rollout_ref.rollout.temperature=1.0 actor_rollout_ref.rollout.top_p=1.0
trainer.nnodes=1 trainer.n_gpus_per_node=2 trainer.device=cpu trainer.logger=[console,file]
trainer.project_name=p2r trainer.experiment_name=0-perceiver trainer.default_local_dir="FOLDER"
trainer.total_training_steps=9 trainer.val_before_train=False
trainer.save_freq=3 trainer.max_actor_ckpt_to_keep=5
trainer.resume_mode=resume_path trainer.resume_from_path="FOLDER/global_step_6"
+ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH="FOLDER/verl.jsonl"
"""
"""What verl is told of the phase of `test_a_phase_is_told_whole`."""
ANSWERER = [{"role": "answerer", "steps": 1}]
CAPTIONED = {"terms": {"caption_similarity": 1}, "caption": {"model": "m"}}
JUDGED = {"judge": "partner", "terms": {"format": 1}}
"""The frozen role judges, for the metrics alone."""
SERVED = {"kind": "endpoint", "url": "http://localhost:8000/v1", "launch": "serve {checkpoint}"}


@pytest.fixture
def url() -> Iterator[str]:
    """Of a frozen role that always sees the same box."""
    with serve(lambda text, _: chat_reply(BOX)) as base:
        yield base


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Puts a stand-in in verl's place; to be told how it behaves. size: of a group. fails: why all rollouts fail."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
    monkeypatch.setattr(driver, "LOOK_EVERY_S", 0.05)
    record = tmp_path / "record.pickle"

    def tell(size: int = 4, fails: str = "", **settings: object) -> None:
        hand_over(record, make_record(size, fails))
        told = {"record": str(record), "checkpoint": str(CHECKPOINT), **settings}
        monkeypatch.setenv("VERL_STAND_IN", json.dumps(told))

    tell()
    return tell


def make_recipe(folder: Path, url: str | None, **changes: object) -> Recipe:
    tables: dict[str, object] = {
        "out": str(folder / "run"),
        "schedule": [{"role": "perceiver", "steps": 3}, {"role": "reasoner", "steps": 2}],
        "model": {"source": "nano-base", "device": "cpu", "dtype": "float32"},
        "data": {"num_rows": 12},
        "rollout": {"group_size": 4, "prompts_per_step": 4},
        "partner": {"kind": "endpoint", "url": url, "image_check": "never"} if url else {},
        "checkpoint": {"every": 2},
    }
    return parse_recipe({**tables, **changes})


def make_record(size: int, fails: str) -> Record:
    """What a worker leaves of a row whose rollouts are right and wrong in turns, or all fail."""
    rewards = [None if fails else float(number % 2) for number in range(size)]
    rollouts = tuple(Rollout((5, 6), True, "boxes", None, reward, {}, fails) for reward in rewards)
    stats = RolloutStats(num_rows=1)
    for rollout in rollouts:
        stats.count(rollout)
    group = Group(make_sample(), "perceiver", EncodedPrompt((1,), (), (), ()), rollouts)
    compared = compare_groups([group], AdvantageSettings())
    return Record([fails] * size, describe_groups(compared), stats, [quote_group("0-perceiver", 1, compared[0])])


def run(recipe: Recipe, *, resume: bool = False, said: list[str] | None = None) -> TrainingRun:
    watcher = Watcher(say=(said if said is not None else []).append)
    return train(recipe, resume=resume, watcher=watcher, run_phase=Verl(nodes=2, gpus=8, arguments=["a.b=c"]).run_phase)


def make_job(recipe: Recipe, folder: Path, num_steps: int = 7, num_done: int = 0) -> Job:
    """The job of the first phase."""
    phase = recipe.phases()[0]
    return Job(recipe, phase, folder, folder / "model", [make_sample()] * phase.prompts_per_step * num_steps, num_done)


def overrides_of(run: Path, phase: str, first: int = 0) -> dict[str, object]:
    return json.loads((run / "verl" / phase / f"started-{first}.json").read_text())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"partner": {}}, 'partner.kind = "local"'),
        ({"partner": {"kind": "vllm"}}, 'partner.kind = "vllm"'),
        ({"partner": {}, "schedule": ANSWERER, "reward": JUDGED}, 'partner.kind = "local"'),
        ({"schedule": ANSWERER, "reward": CAPTIONED}, "reward.caption"),
        ({"model": {"source": "nano-base", "lora": {}}}, "model.lora"),
        ({"model": {"source": "nano-base", "freeze_vision": True}}, "freeze_vision"),
        ({"probe": {"source": "needles"}}, "probe.source"),
        ({"data": {"num_rows": 12, "difficulty": {}}}, "data.difficulty"),
        ({"rollout": {"engine": "vllm"}}, 'rollout.engine = "vllm"'),
        ({"rollout": {"dynamic_sampling": True}}, "rollout.dynamic_sampling"),
        ({"advantage": {"std": "population"}}, 'advantage.std = "population"'),
        ({"advantage": {"eps": 1e-4}}, "advantage.eps = 0.0001"),
        ({"loss": {"clamp": False}}, "loss.clamp = false"),
        ({"loss": {"resting_kl_coef": 0.1}, "partner": SERVED}, "loss.resting_kl_coef"),
        ({"loss": {"importance_cap": 2.0}}, "loss.importance_cap"),
        ({"loss": {"mask_truncated": True}}, "loss.mask_truncated"),
        ({"optimizer": {"kind": "adamw8bit"}}, 'optimizer.kind = "adamw8bit"'),
        ({"optimizer": {"scheduler": "linear"}}, 'optimizer.scheduler = "linear"'),
        ({"optimizer": {"reduce_once": True}}, "optimizer.reduce_once"),
        ({"schedule": [{"role": "perceiver", "method": "sft", "data": {"source": "r.jsonl"}}]}, 'method = "sft"'),
    ],
)
def test_what_verl_cannot_do_is_refused_by_name(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    check_recipe(make_recipe(tmp_path, "http://localhost:8000/v1"))
    with pytest.raises(ConfigError) as caught:
        check_recipe(make_recipe(tmp_path, "http://localhost:8000/v1", **changes))
    assert f"has {named}, which verl cannot do: " in caught.value.message


async def test_a_phase_that_asks_nobody_needs_no_url(tmp_path: Path) -> None:
    check_recipe(make_recipe(tmp_path, None, schedule=ANSWERER))
    recipe = make_recipe(tmp_path, "http://localhost:8000/v1", schedule=ANSWERER)
    async with replace(make_job(recipe, tmp_path), source=CHECKPOINT).open_partner() as partner:
        assert not partner.is_elsewhere  # nor is a server launched for it


def test_every_setting_that_changes_results_is_told(tmp_path: Path) -> None:
    """A setting that verl follows changes its overrides."""

    def tell(**changes: object) -> set[str]:
        recipe = make_recipe(tmp_path, "http://localhost:8000/v1", **changes)
        return set(make_overrides(make_job(recipe, tmp_path)))

    plain = tell()
    assert 'data.train_files="' + str(tmp_path / "job.pickle") + '"' in plain
    assert "actor_rollout_ref.rollout.dtype=bfloat16" in tell(model={"source": "nano-base"})
    for table, setting, value, told in (
        ("loss", "dual_clip", 0, "actor.clip_ratio_c=1000000000.0"),
        ("loss", "clip_low", 0.1, "actor.clip_ratio_low=0.1"),
        ("loss", "clip_high", 0.3, "actor.clip_ratio_high=0.3"),
        ("loss", "kl_coef", 0, "actor.use_kl_loss=False"),
        ("loss", "reduction", "dr-grpo", "actor.loss_agg_mode=seq-mean-token-sum-norm"),
        ("loss", "objective", "cispo", "actor.policy_loss.loss_mode=cispo"),
        ("loss", "ratio", "sequence", "actor.policy_loss.loss_mode=gspo"),
        ("advantage", "std", "none", "algorithm.norm_adv_by_std_in_grpo=False"),
        ("optimizer", "weight_decay", 0.5, "actor.optim.weight_decay=0.5"),
        ("optimizer", "betas", [0.8, 0.9], "actor.optim.betas=[0.8,0.9]"),
        ("optimizer", "warmup_share", 0.2, "actor.optim.lr_warmup_steps=2"),
        ("optimizer", "scheduler", "cosine", "actor.optim.lr_scheduler_type=cosine"),
        ("optimizer", "grad_clip", 2.0, "actor.optim.clip_grad=2.0"),
        ("optimizer", "updates_per_batch", 3, "actor.ppo_epochs=3"),
        ("optimizer", "kind", "offload", "actor.fsdp_config.optimizer_offload=True"),
        ("optimizer", "reshard", True, "actor.fsdp_config.reshard_after_forward=True"),
        ("rollout", "temperature", 0.7, "rollout.temperature=0.7"),
        ("rollout", "top_p", 0.9, "rollout.top_p=0.9"),
        ("rollout", "group_size", 6, "rollout.n=6"),
        ("rollout", "prompts_per_step", 8, "data.train_batch_size=8"),
        ("model", "gradient_checkpointing", False, "model.enable_gradient_checkpointing=False"),
        ("model", "dtype", "float32", "rollout.dtype=float32"),
    ):
        base = {"model": {"source": "nano-base"}, table: {setting: value}}
        if table == "model":
            base["model"] = {"source": "nano-base", setting: value}
        found = tell(**base) - plain if setting != "dtype" else tell(**base) - tell(model={"source": "nano-base"})
        assert any(each.endswith(told) for each in found), f"{table}.{setting} is not told: {found}"


def test_a_phase_is_told_whole(tmp_path: Path) -> None:
    recipe = make_recipe(
        tmp_path,
        "http://localhost:8000/v1",
        schedule=[{"role": "perceiver", "steps": 9, "lr": 3e-6}],
        data={"num_rows": 72, "max_prompt_tokens": {"perceiver": 500, "reasoner": 600}},
        rollout={"group_size": 4, "prompts_per_step": 8, "max_new_tokens": {"perceiver": 70, "reasoner": 90}},
        loss={"kl_coef": 0.05},
        optimizer={"mini_batch_prompts": 4, "warmup_steps": 3, "micro_batch_groups": 2},
        checkpoint={"every": 3, "keep_last": 4},
        seed=5,
    )
    told = make_overrides(make_job(recipe, tmp_path, 9, num_done=6), nodes=1, gpus=2)
    assert sorted(told) == sorted(TOLD.replace("FOLDER", str(tmp_path)).split())


def test_every_phase_and_every_update_is_checked(tmp_path: Path) -> None:
    later = [{"role": "perceiver", "steps": 1}, {"role": "reasoner", "steps": 1, "loss": {"mask_truncated": True}}]
    with pytest.raises(ConfigError, match=r"phase 1-reasoner has loss.mask_truncated"):
        check_recipe(make_recipe(tmp_path, "http://localhost:8000/v1", schedule=later))
    parts = make_recipe(tmp_path, "http://localhost:8000/v1", optimizer={"mini_batch_prompts": 2})
    with pytest.raises(ConfigError, match=r"has 8 rollouts in an update, .*: 16 GPUs cannot share them"):
        check_recipe(parts, 16)  # which a step of 16 could


def test_what_is_handed_over_is_taken_over(tmp_path: Path) -> None:
    record = make_record(2, "")
    hand_over(tmp_path / "new" / "record.pickle", record)
    assert take_over(tmp_path / "new" / "record.pickle") == record
    with pytest.raises(StorageError):
        hand_over(tmp_path / "new" / "record.pickle" / "inside.pickle", record)


def test_gpus_share_an_update_in_whole_micro_batches(tmp_path: Path) -> None:
    rollout = {"group_size": 4, "prompts_per_step": 8}
    recipe = make_recipe(tmp_path, "http://localhost:8000/v1", rollout=rollout, optimizer={"micro_batch_groups": 3})
    for nodes, gpus, size in ((1, 1, 4), (1, 2, 4), (2, 8, 2), (4, 8, 1)):
        told = make_overrides(make_job(recipe, tmp_path), nodes=nodes, gpus=gpus)
        assert f"actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu={size}" in told
        check_recipe(recipe, nodes * gpus)
    for gpus in (3, 31):  # two are left over, or one
        said = rf"has 32 rollouts in an update, which verl cannot do: {gpus} GPUs cannot share"
        with pytest.raises(ConfigError, match=said):
            Verl(gpus=gpus).check(recipe)


def test_both_phases_leave_the_files_of_a_run(tmp_path: Path, url: str, stand_in: Callable[..., None]) -> None:
    recipe = make_recipe(tmp_path, url)
    done = run(recipe)
    assert done.is_finished and done.checkpoint == recipe.out / "1-reasoner"
    assert [(row.phase, row.step) for row in done.steps] == [*(("0-perceiver", k) for k in (1, 2, 3)),
                                                             *(("1-reasoner", k) for k in (1, 2))]  # fmt: skip
    step = done.steps[0]
    assert (step.policy, step.grad_norm, step.kl, step.lr) == (0.25, 0.5, 0.125, 1e-3)
    assert (step.loss, step.entropy, step.clip_share) == (0.375, 1.25, 0.0625)
    assert (step.sampler_diff, step.sampler_diff_max) == (1e-5, 1e-4)
    assert step.timing == {"gen": 1.5, "seconds": 2.0}
    assert (step.reward, step.num_rows, step.num_groups, step.num_rollouts) == (0.5, 4, 4, 16)
    assert len(done.groups) == 5 and len(done.groups[0].rollouts) == 4
    told = overrides_of(recipe.out, "1-reasoner")
    assert told["actor_rollout_ref.model.path"] == f'"{recipe.out / "0-perceiver"}"'  # handed on
    assert told["trainer.nnodes"] == "2" and told["trainer.n_gpus_per_node"] == "8" and told["a.b"] == "c"
    perceiving, reasoning = (take_over(recipe.out / f"verl/{name}/job.pickle") for name in PHASES)
    assert len(perceiving.rows) == 12 and perceiving.evidence == {}
    assert reasoning.evidence.keys() == {row.id for row in reasoning.rows}  # each once, before verl began
    assert all(trace.perception and len(trace.perception.boxes) == 1 for trace in reasoning.evidence.values())
    assert not list((recipe.out / "verl").rglob("records/*"))


def test_a_killed_run_is_resumed_from_the_last_checkpoint(
    tmp_path: Path, url: str, stand_in: Callable[..., None]
) -> None:
    recipe = make_recipe(tmp_path, url, schedule=[{"role": "perceiver", "steps": 5}])
    stand_in(dies_after=3)
    with pytest.raises(TrainingError, match=r"verl ended with code 137"):
        run(recipe)
    before = read_training_run(recipe.out)
    assert [row.step for row in before.steps] == [1, 2, 3] and not before.is_finished
    stand_in()
    said = list[str]()
    done = run(recipe, resume=True, said=said)
    assert any(each.startswith("phase 0-perceiver: steps 3 to 5, from ") for each in said)
    started = overrides_of(recipe.out, "0-perceiver", first=2)
    assert started["trainer.resume_from_path"] == f'"{recipe.out / "verl/0-perceiver/global_step_2"}"'
    assert [row.step for row in done.steps] == [1, 2, 3, 4, 5] and done.is_finished


def test_a_verl_that_a_killed_run_has_left_is_ended(tmp_path: Path, url: str, stand_in: Callable[..., None]) -> None:
    recipe = make_recipe(tmp_path, url, schedule=[{"role": "perceiver", "steps": 1}])
    record = recipe.out / "verl/0-perceiver/process.json"
    record.parent.mkdir(parents=True)
    with (tmp_path / "left.log").open("wb") as output:
        left = keeper.start(record, [sys.executable, "-c", "import time; time.sleep(600)"], output)
    try:
        while not record.exists():
            assert left.poll() is None
        assert run(recipe).is_finished
        assert left.wait(20) == 128 + signal.SIGTERM
    finally:
        keeper.end(left)


def test_a_run_that_is_stopped_before_merging_does_not_train_again(
    tmp_path: Path, url: str, stand_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(tmp_path, url, schedule=[{"role": "perceiver", "steps": 2}])
    monkeypatch.setattr(driver, "MERGER", "verl.no_such_merger")
    with pytest.raises(TrainingError, match=r"verl ended with code 1: .*No module named"):
        run(recipe)
    monkeypatch.setattr(driver, "MERGER", "verl.model_merger")
    assert run(recipe, resume=True).is_finished
    assert not list(recipe.out.glob("verl/0-perceiver/started-2.json"))


def test_too_many_failures_end_the_job_with_their_cause(
    tmp_path: Path, url: str, stand_in: Callable[..., None]
) -> None:
    recipe = make_recipe(tmp_path, url, rollout={"group_size": 8, "prompts_per_step": 4})
    stand_in(size=8, fails="nobody answers", waits=True)
    with pytest.raises(TooManyErrors, match=r"32 of the latest 32 rollouts could not be judged.*nobody answers"):
        run(recipe)
    left = read_training_run(recipe.out)
    assert [row.num_unjudged for row in left.steps] == [32] and left.steps[0].reward is None
    assert not left.phases[0].is_finished


def test_a_step_in_which_all_failed_ends_verl_and_is_told_by_its_cause(
    tmp_path: Path, url: str, stand_in: Callable[..., None]
) -> None:
    """However few rollouts it had, and however well those of other steps went."""
    recipe = make_recipe(tmp_path, url)
    stand_in(fails="nobody answers", ends_in=1)
    with pytest.raises(TooManyErrors, match=r"16 of the latest 16 rollouts could not be judged.*nobody answers"):
        run(recipe)
    stand_in(ends_in=2)  # what was judged is no cause
    with pytest.raises(TrainingError, match=r"verl ended with code 1: .*no materializable trajectories"):
        run(recipe, resume=True)
    stand_in(fails="nobody answers", lost=1, ends_in=1)  # nor is what verl has not asked to its end
    with pytest.raises(TrainingError, match=r"verl ended with code 1: .*no materializable trajectories"):
        run(recipe, resume=True)


def test_a_run_that_verl_cannot_make_is_refused_from_python_too(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"has loss.mask_truncated, which verl cannot do"):
        run(make_recipe(tmp_path, url, loss={"mask_truncated": True}))


def test_a_row_that_left_no_record_counts_as_failed(tmp_path: Path, url: str, stand_in: Callable[..., None]) -> None:
    recipe = make_recipe(tmp_path, url, rollout={"group_size": 8, "prompts_per_step": 4})
    stand_in(size=8, ends_in=1)
    with pytest.raises(TrainingError):
        run(recipe)  # leaves a record of each row, which the next call does not take for its own
    stand_in(size=8, lost=1)
    with pytest.raises(TooManyErrors, match=r"8 of the latest 32 rollouts .*a worker of verl failed"):
        run(recipe, resume=True)


def test_a_guard_ends_the_job(tmp_path: Path, url: str, stand_in: Callable[..., None]) -> None:
    stand_in(waits=True)
    guards = {"action": "stop", "patience": 2, "kl_ceiling": 0.1}
    with pytest.raises(TrainingError, match=r"stopped at step 2 of phase 0-perceiver: the KL divergence is 0.125"):
        run(make_recipe(tmp_path, url, guards=guards))


def test_a_frozen_role_that_dies_twice_ends_verl(
    tmp_path: Path, stand_in: Callable[..., None], unused_tcp_port: int
) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    partner = {"kind": "endpoint", "url": url, "launch": f"{sys.executable} {script} {{port}}"}
    stand_in(waits=True)
    with pytest.raises(TrainingError, match=r"ended with code 3: .*no more; it is given up after 2 launches"):
        run(make_recipe(tmp_path, url, partner=partner))
    record = tmp_path / "run/verl/0-perceiver/process.json"
    assert not record.exists(), "verl was not ended"


def test_a_run_of_another_engine_is_not_continued(tmp_path: Path, url: str, stand_in: Callable[..., None]) -> None:
    recipe = make_recipe(tmp_path, url, schedule=[{"role": "perceiver", "steps": 2}])
    run(recipe)
    (recipe.out / "verl").rename(recipe.out / "elsewhere")  # as if p2r itself had taken the steps
    (recipe.out / "0-perceiver").rename(recipe.out / "gone")
    with pytest.raises(StorageError, match=r"global_step_2, from which verl would continue, is not there") as caught:
        run(recipe, resume=True)
    assert "leave out `engine` if p2r itself has trained the phase so far" in (caught.value.hint or "")


def test_a_checkpoint_of_verl_that_is_gone_is_missed(tmp_path: Path, url: str, stand_in: Callable[..., None]) -> None:
    recipe = make_recipe(tmp_path, url, schedule=[{"role": "perceiver", "steps": 5}])
    stand_in(dies_after=3)
    with pytest.raises(P2RError):
        run(recipe)
    (recipe.out / "verl/0-perceiver/global_step_2/actor").rmdir()
    (recipe.out / "verl/0-perceiver/global_step_2").rmdir()
    with pytest.raises(StorageError, match=r"global_step_2, from which verl would continue, is not there"):
        run(recipe, resume=True)


def test_without_verl_one_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"verl is not installed here"):
        Verl().check(make_recipe(tmp_path, "http://localhost:8000/v1"))


def test_the_plan_is_what_verl_is_told(tmp_path: Path) -> None:
    lines = list(Verl(nodes=4, gpus=2).describe(make_recipe(tmp_path, "http://localhost:8000/v1")))
    assert [line for line in lines if line.startswith("#")] == ["# phase 0-perceiver", "# phase 1-reasoner"]
    assert "trainer.nnodes=4" in lines and "trainer.total_training_steps=3" in lines
    assert f'actor_rollout_ref.model.path="{tmp_path / "run/0-perceiver"}"' in lines


def test_the_command_names_its_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call = ["train", "nano", "--engine", "verl", "--nodes", "4", "--gpus", "2", "--engine-arg", "x.y=1"]
    refused = CliRunner().invoke(app, [*call, "--plan"])
    assert refused.exit_code and "hint: change the recipe, or leave out --engine" in refused.output
    (tmp_path / "recipe.toml").write_text(
        'out = "run"\nschedule = [{ role = "perceiver", steps = 2 }]\nmodel = { source = "nano-base" }\n'
        'data = { num_rows = 128 }\npartner = { kind = "endpoint", url = "http://localhost:8000/v1" }\n'
    )
    planned = CliRunner().invoke(app, ["train", "recipe.toml", *call[2:], "--plan"])
    assert planned.exit_code == 0, planned.output
    lines = planned.output.splitlines()
    assert "trainer.nnodes=4" in lines and "trainer.n_gpus_per_node=2" in lines and lines[-1] == "x.y=1"
    assert not (tmp_path / "run").exists()


def test_nano_is_planned_as_the_guide_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guide = (ROOT / "docs/guides/scale.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^p2r (train nano --engine verl(?:\\\n|.)*)$", guide, re.MULTILINE)
    planned = CliRunner().invoke(app, [*shlex.split(command.replace("\\\n", " ")), "--plan"])
    assert planned.exit_code == 0, planned.output
    lines = planned.output.splitlines()
    assert "actor_rollout_ref.actor.optim.lr_scheduler_type=cosine" in lines and "trainer.device=cuda" in lines
    assert "trainer.total_training_steps=40" in lines and "trainer.total_training_steps=30" in lines


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--nodes", "2"], "--nodes is said to verl, which was not asked for"),
        (["--gpus", "2"], "--gpus is said to verl"),
        (["--engine-arg", "x.y=1"], "--engine-arg is said to verl"),
        (["--engine", "verl", "--processes", "2"], "--processes has no use beside verl"),
    ],
)
def test_flags_without_a_use_are_refused(flags: list[str], said: str) -> None:
    refused = CliRunner().invoke(app, ["train", "nano", *flags, "--plan"])
    assert refused.exit_code == 2
    assert said in refused.output
    assert "hint: " in refused.output
