"""An adapter for each role: what trains one leaves the other as it is, to the bit, and each goes on with its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from p2r.config import ModelSettings
from p2r.dialogue import Decoding, Prompt
from p2r.models.nano import CHECKPOINT
from p2r.training.engines.local.adapters import RESTING, as_frozen
from p2r.training.engines.local.distributed import whole_tensor
from p2r.training.engines.local.export import gather_weights, save_policy
from p2r.training.engines.local.policy import Policy, load_policy, open_resting, take_snapshot
from tests.fakes.split_training import Canvas
from tests.fakes.tiny_training import make_recipe, read_metrics, run

pytest.importorskip("peft")

LORA = {"rank": 4, "alpha": 8, "targets": ["q_proj", "down_proj"], "per_role": True}
PROMPT = Prompt("perceiver", "", "Where is the kite?", (Canvas().load(),), "test")
FILE = Path("adapter") / "adapter_model.safetensors"


def load(source: Path, resting: Path | None = None) -> Policy:
    settings = ModelSettings.model_validate({"source": str(source), "device": "cpu", "lora": LORA})
    return load_policy(settings, resting=None if resting is None else str(resting))


def move(policy: Policy, seed: int) -> None:
    """As if it had learned: both halves of the adapter change."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.trainable.values():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)


def read(policy: Policy) -> torch.Tensor:
    """The logits after a prompt with an image."""
    with torch.inference_mode():
        return policy.engine.prefill([policy.encoder.encode(PROMPT)]).logits_BV.clone()


def read_resting(policy: Policy) -> torch.Tensor:
    with as_frozen(policy.model, RESTING):
        return read(policy)


def save(policy: Policy, folder: Path) -> Path:
    save_policy(policy, gather_weights(policy, whole_tensor), folder)
    return folder


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A base, and checkpoints of a perceiver and a reasoner on it."""
    folder = tmp_path_factory.mktemp("roles")
    shutil.copytree(CHECKPOINT, folder / "base")
    saved: list[Path] = []
    for seed, name in enumerate(("perceiver", "reasoner")):
        policy = load(folder / "base")
        move(policy, seed)
        saved.append(save(policy, folder / name))
    return folder / "base", saved[0], saved[1]


def test_what_trains_one_role_leaves_the_other_to_the_bit(roles: tuple[Path, Path, Path]) -> None:
    _, perceiver, reasoner = roles
    policy, alone = load(perceiver, reasoner), load(reasoner)
    assert torch.equal(read(policy), read(load(perceiver)))
    rests = read_resting(policy)
    assert torch.equal(rests, read(alone)) and not torch.equal(rests, read(policy))
    before = read(policy)
    model = open_resting(policy, batch_size=2)
    assert model is not None and model.name == "frozen:reasoner"
    said = model.complete_all([PROMPT], Decoding(max_new_tokens=8))[0]
    move(policy, seed=7)
    assert torch.equal(read_resting(policy), rests) and not torch.equal(read(policy), before)
    again = model.complete_all([PROMPT], Decoding(max_new_tokens=8))[0]
    assert again.text == said.text  # type: ignore[union-attr]


def test_before_its_first_phase_a_role_is_the_base(roles: tuple[Path, Path, Path]) -> None:
    base, perceiver, _ = roles
    policy = load(perceiver, base)
    assert torch.equal(read_resting(policy), read(load(base)))
    assert not any(f".{RESTING}." in name for name, _ in policy.model.named_parameters())


def test_the_reference_is_the_role_that_learns_and_the_partner_the_one_that_rests(
    roles: tuple[Path, Path, Path],
) -> None:
    _, perceiver, reasoner = roles
    policy = load(perceiver, reasoner)
    learning = set(policy.trainable)
    snapshot = take_snapshot(policy, batch_size=2)
    start, rests = read(policy), read_resting(policy)
    assert set(policy.trainable) == learning and all(".default." in name for name in learning)
    move(policy, seed=9)
    with snapshot.reference():
        assert torch.equal(read(policy), start)
    assert snapshot.partner.name == "frozen:reasoner" and policy.frozen_checkpoint.folder == reasoner
    seen: list[torch.Tensor] = []
    forward = policy.model.forward

    def watch(*given: object, **named: object) -> object:
        output = forward(*given, **named)
        seen.append(output.logits[0, -1].clone())  # type: ignore[attr-defined]
        return output

    policy.model.forward = watch  # type: ignore[method-assign]
    snapshot.partner.complete_all([PROMPT], Decoding(max_new_tokens=1))
    assert torch.allclose(seen[0][: rests.shape[1]], rests[0], atol=1e-4) or (
        int(seen[0].argmax()) == int(rests[0].argmax())
    )


def test_a_role_goes_on_with_its_adapter_and_saves_it_alone(roles: tuple[Path, Path, Path], tmp_path: Path) -> None:
    base, perceiver, reasoner = roles
    policy = load(perceiver, reasoner)
    saved = load_file(save(policy, tmp_path / "next") / FILE)
    before = load_file(perceiver / FILE)
    assert saved.keys() == before.keys() and all(torch.equal(saved[name], before[name]) for name in before)
    merged, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "next", perceiver))
    assert all(torch.equal(merged[name], theirs[name]) for name in theirs)
    assert policy.base is not None and policy.base.checkpoint.folder == base


PHASES = (
    'schedule=[{role="perceiver", steps=1, lr=5e-3}, {role="reasoner", steps=1, lr=5e-3}, '
    '{role="perceiver", steps=1, lr=5e-3}]'
)


@pytest.mark.slow
def test_a_run_trains_both_in_turns_and_probes_each_role_with_its_own(tmp_path: Path) -> None:
    lora = [f"model.lora.{name}={value}" for name, value in (("rank", 4), ("alpha", 8), ("per_role", "true"))]
    changes = ["model.source=nano-base", "rollout.temperature=1.3", "reward.overlong=0.5", "reward.overlong_buffer=1.0"]
    recipe = make_recipe(tmp_path / "run", [PHASES, *lora, *changes, "probe.every=1", "optimizer.updates_per_batch=1"])
    said, out = run(recipe), tmp_path / "run"
    assert "phase 0-perceiver: steps 1 to 1, from nano-base, the other role from nano-base" in said
    assert f"phase 1-reasoner: steps 1 to 1, from nano-base, the other role from {out}/0-perceiver" in said
    assert f"phase 2-perceiver: steps 1 to 1, from {out}/0-perceiver, the other role from {out}/1-reasoner" in said
    first, other, again = (load_file(out / name / FILE) for name in ("0-perceiver", "1-reasoner", "2-perceiver"))
    halves = [name for name in first if "lora_A" in name]
    # Adam moves a weight by the rate at most; a new adapter begins anywhere.
    assert 0 < max(float((again[name] - first[name]).abs().max()) for name in halves) < 6e-3
    assert min(float((other[name] - first[name]).abs().max()) for name in halves) > 2e-2
    probes = read_metrics(out, "probes.jsonl")
    looks = [(each["mean_boxes"], each["mean_box_area"], each["mean_iou"]) for each in probes]
    answers = [each["accuracy_direct"] for each in probes]
    assert [each["phase"] for each in probes] == [phase.name for phase in recipe.phases() for _ in range(2)]
    assert looks[1] == looks[2] == looks[3] == looks[4], "the perceiver rests while the reasoner learns"
    assert answers[0] == answers[1] == answers[2] and answers[3] == answers[4] == answers[5]
    for role in ("perceiver", "reasoner"):
        assert (out / "best" / role / "model.safetensors").is_file()
