"""The real vLLM samples the policy: with its present weights, also when an engine has died or a run was resumed."""

from __future__ import annotations

import json
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.fakes import vllm_guest
from tests.fakes.tiny_training import make_recipe, read_metrics

pytestmark = pytest.mark.slow

ENGINE = [
    *("engine.enforce_eager=true", "engine.max_model_len=2048"),
    f"engine.distributed_executor_backend='{vllm_guest.ONE_PROCESS}'",
]
CLOSE = 1e-4

COMPARE = """
import json, os, signal, subprocess
from functools import partial
from pathlib import Path
import torch
from p2r.config import RolloutSettings
from p2r.dialogue import Decoding
from p2r.errors import ModelError
from p2r.models.local.patches import normalize
from p2r.training.engines.local.distributed import whole_tensor
from p2r.training.engines.local.export import gather_weights, save_policy
from p2r.training.engines.local.generate import Wanted, generate_groups
from p2r.training.engines.local.policy import load_policy
from p2r.training.engines.vllm import VllmActor, find_place
from p2r.training.engines.vllm_server import VllmServer
from tests.fakes.replies import ask_about, noise
from tests.fakes.tiny_training import make_recipe
from tests.fakes.vllm_guest import ONE_PROCESS

GREEDY, DRAWN = Decoding(max_new_tokens=24), Decoding(max_new_tokens=24, temperature=1.0)

def write(folder):
    save_policy(policy, gather_weights(policy, whole_tensor), folder)

def ask(num_seeds, num_rows=4):
    prompts = [actor.encode(ask_about(noise(256, 256, row), noise(192, 128, row + 9))) for row in range(num_rows)]
    return [Wanted(prompt, range(10 * row, 10 * row + num_seeds)) for row, prompt in enumerate(prompts)]

def find_gap(wanted, groups):
    gaps = []
    for place, one in enumerate(wanted):
        pixels = normalize(one.prompt.patches, policy.checkpoint.patches, frames=policy.engine.num_frames)
        for reply in groups[place]:
            ids = torch.tensor([[*one.prompt.token_ids, *reply.token_ids]])
            given = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "pixel_values": pixels,
                "image_grid_thw": torch.tensor(one.prompt.grids),
                "mm_token_type_ids": (ids == policy.engine.image_token_id).int(),
            }
            with torch.no_grad():
                logits = policy.model(**given, use_cache=False).logits[0, len(one.prompt.token_ids) - 1 : -1]
            known = policy.engine.allow(logits).log_softmax(-1)  # the token of an image is never drawn
            drawn = enumerate(zip(reply.token_ids, reply.logprobs))
            gaps += [abs(float(known[number, token]) - told) for number, (token, told) in drawn]
    return max(gaps)

def compare():
    greedy, drawn = ask(1), ask(3)
    with actor.awake():
        likeliest = dict(actor.sample(greedy, GREEDY, 2, lambda: False))
        groups = dict(actor.sample(drawn, DRAWN, 2, lambda: False))
    own = dict(generate_groups(policy.engine, greedy, GREEDY, 4))
    return {
        "likeliest": [policy.encoder.decode(likeliest[row][0].token_ids) for row in range(4)],
        "is_equal": [likeliest[row][0].token_ids == own[row][0].token_ids for row in range(4)],
        "ended": [likeliest[row][0].ended == own[row][0].ended for row in range(4)],
        "gap": find_gap(drawn, groups),
        "different": len({reply.token_ids for group in groups.values() for reply in group}),
        "drawn": [[reply.token_ids for reply in groups[row]] for row in range(4)],
    }

def crowd():
    # more tokens of prompts than vLLM reads in a step
    many = ask(2, num_rows=30)
    with actor.awake():
        return find_gap(many, dict(actor.sample(many, DRAWN, 30, lambda: False)))

def kill_engine(parent=os.getpid()):
    children = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True)
    for line in children.stdout.splitlines():
        if "EngineCore" in line:
            os.kill(int(line.split()[0]), signal.SIGKILL)
        else:
            kill_engine(line.split()[0])

def killed_in_the_middle():
    drawn, groups = ask(3), {}
    with actor.awake():
        for place, group in actor.sample(drawn, DRAWN, 2, lambda: False):
            if not groups:
                kill_engine()
            groups[place] = group
    return {"places": sorted(groups), "gap": find_gap(drawn, groups)}

if __name__ == "__main__":
    policy = load_policy(make_recipe(Path("run"), ["model.dtype='float32'"]).model)
    version = 0
    args = {"enforce_eager": True, "max_model_len": 2048, "distributed_executor_backend": ONE_PROCESS}
    start = START
    actor = VllmActor(policy, args, version=lambda: version, write=write, folder=Path("run"), start=start)
    found = {"before": compare(), "again": compare()}
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in policy.trainable.values():
            weight += 0.01 * torch.randn_like(weight)
    version += 1
    found["after"] = compare()
    found["crowd"] = crowd()
    if "in the middle" in KILLS:
        found["killed in the middle"] = killed_in_the_middle()
    if "in its sleep" in KILLS:
        kill_engine()
        found["killed in its sleep"] = compare()
    with actor.awake():
        version += 1
        try:
            list(actor.sample(ask(1), GREEDY, 2, lambda: False))
        except ModelError as error:
            found["stale"] = error.message
    actor.close()
    found["left"] = find_place(Path("run"), 0).exists()
    print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def vllm_is_there() -> None:
    vllm_guest.require()


def run_script(place: Path, script: str) -> dict[str, Any]:
    (place / "script.py").write_text(script)
    done = vllm_guest.run("script.py", cwd=place)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def make_launched() -> dict[str, str]:
    """The settings of a server that the trainer launches, in the environment of `vllm_guest.run`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    command = [*vllm_guest.SERVE, "--host", "127.0.0.1", "--model", "{checkpoint}", "--port", "{port}"]
    return {"engine": "vllm", "url": url, "launch": shlex.join(command)}


@pytest.mark.parametrize(
    ("place", "kills"),
    [
        ("beside", ["in the middle"]),
        ("launched", ["in its sleep"]),
        pytest.param("beside", ["in its sleep"], marks=pytest.mark.very_slow),
        pytest.param("launched", ["in the middle"], marks=pytest.mark.very_slow),
    ],
)
def test_replies_and_log_probs_are_those_of_the_policy_before_and_after_an_update(
    tmp_path: Path, place: str, kills: list[str]
) -> None:
    """However the engine dies, the same code starts it again; test_train_served.py has all with a stand-in."""
    launched = f"partial(VllmServer, settings=RolloutSettings(**{make_launched()}), folder=Path('run'), owner='me')"
    script = COMPARE.replace("START", launched if place == "launched" else "None")
    found = run_script(tmp_path, script.replace("KILLS", repr(kills)))
    for name in {"before", "again", "after", "killed in its sleep"} & found.keys():
        assert found[name]["is_equal"] == found[name]["ended"] == [True] * 4, name
        assert found[name]["gap"] < CLOSE, name
        assert found[name]["different"] > 4
    assert found["before"]["likeliest"] != found["after"]["likeliest"]
    assert found["before"]["drawn"] == found["again"]["drawn"]
    assert found["crowd"] < CLOSE
    assert {f"killed {kill}" for kill in kills} <= found.keys()
    if killed := found.get("killed in the middle"):
        assert killed["places"] == [0, 1, 2, 3]
        assert killed["gap"] < CLOSE
    assert found["stale"] == "a rollout was drawn with weights of version 1, and the policy has 2"
    assert not found["left"]


TRAIN = """
import shutil
from pathlib import Path
from p2r.training.train import train
from p2r.training.watch.watcher import Watcher
from tests.fakes.tiny_training import make_recipe

def step(row, num_steps):
    if row.step == 2:  # as a kill leaves it, before this step's checkpoint
        shutil.copytree("run", "killed")

if __name__ == "__main__":
    recipe = make_recipe(Path("run"), CHANGES)
    train(recipe, watcher=Watcher(step=step))
    Path("run").rename("whole")
    Path("killed").rename("run")
    train(recipe, watcher=Watcher(), resume=True)
    print("{}")
"""


def test_a_run_that_vllm_samples_trains_adapters_and_is_resumed(tmp_path: Path) -> None:
    changes = ["rollout.engine='vllm'", "model.dtype='float32'", "checkpoint.every=1", "model.lora={rank=4}", *ENGINE]
    changes.append("schedule=[{role='reasoner', steps=2, lr=1e-2}]")
    run_script(tmp_path, TRAIN.replace("CHANGES", repr(changes)))
    whole, resumed = (read_metrics(tmp_path / name) for name in ("whole", "run"))
    assert [row["step"] for row in whole] == [1, 2]
    assert resumed == whole
    for row in whole:
        assert row["num_unjudged"] == 0
        assert 0 < row["sampler_diff_max"] < CLOSE  # type: ignore[operator]


def test_two_processes_that_one_launched_server_samples_have_the_metrics_of_one(tmp_path: Path) -> None:
    steps = "schedule=[{role='perceiver', steps=2, lr=1e-4}]"
    for name, rollout, options in (
        ("alone", {"engine": "vllm"}, []),
        ("pair", make_launched(), ["--processes", "2"]),
    ):
        told = [f"rollout.{setting}={json.dumps(value)}" for setting, value in rollout.items()]
        recipe = make_recipe(tmp_path / name, [*told, *ENGINE, steps, "model.dtype='float32'", "probe.num=1"])
        (tmp_path / f"{name}.json").write_text(recipe.model_dump_json())
        done = vllm_guest.run("-m", "p2r", "train", f"{name}.json", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
    alone, pair = (read_metrics(tmp_path / name) for name in ("alone", "pair"))
    assert len(alone) == len(pair) == 2
    for one, two in zip(alone, pair, strict=True):
        assert 0 < two["sampler_diff_max"] < CLOSE  # type: ignore[operator]
        for name, value in two.items():
            assert value == (pytest.approx(one[name], rel=1e-3, abs=CLOSE) if isinstance(value, float) else one[name])
