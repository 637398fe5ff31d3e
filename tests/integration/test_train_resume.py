"""A training run that is cut off goes on as if nothing had happened, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from p2r.config import Recipe
from p2r.errors import StorageError, TooManyErrors, TrainingError
from p2r.models.local.model import LocalModel
from p2r.training import phases
from p2r.training.engines.local.policy import load_policy
from p2r.training.train import train
from p2r.training.watch.watcher import Watcher
from tests.fakes.tiny_training import make_recipe, read_metrics, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(make_recipe(out))
    return out


def assert_same(out: Path, whole: Path) -> None:
    for file in ("metrics.jsonl", "probes.jsonl"):
        assert read_metrics(out, file) == read_metrics(whole, file)
    for phase in ("0-perceiver", "1-reasoner"):
        ours, theirs = (load_file(folder / phase / "model.safetensors") for folder in (out, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert_equal_parts(*(folder / "checkpoints" / "001-000002" / "part-0.pt" for folder in (out, whole)))


def assert_equal_parts(ours: Path, theirs: Path) -> None:
    """The float32 weights and Adam's moments; what is saved as a checkpoint is rounded."""
    one, other = (torch.load(path, weights_only=True) for path in (ours, theirs))
    assert all(torch.equal(weight, other["weights"][name]) for name, weight in one["weights"].items())
    for key, state in one["optimiser"]["adam"]["state"].items():
        assert all(torch.equal(value, other["optimiser"]["adam"]["state"][key][name]) for name, value in state.items())
    assert torch.equal(one["random"]["torch"], other["random"]["torch"])
    assert one["failures"] == other["failures"] and one["failures"]


@pytest.mark.parametrize("stop_after", [*(pytest.param(each, marks=pytest.mark.very_slow) for each in (1, 3)), 4])
def test_a_crashed_run_resumes_to_the_same_figures_and_weights(tmp_path: Path, whole: Path, stop_after: int) -> None:
    """Before the first checkpoint, at the end of a phase, and within the second phase.

    The first two are also moments of the plain run of test_train_kill_table.py.
    """
    recipe = make_recipe(tmp_path / "run")
    with pytest.raises(KeyError):
        run(recipe, stop_after=stop_after)
    run(recipe, resume=True)
    assert_same(tmp_path / "run", whole)


def test_each_phase_leaves_a_checkpoint_that_can_be_asked(whole: Path) -> None:
    assert LocalModel.load(whole / "1-reasoner").profile.family == "qwen3_vl"
    assert (whole / "0-perceiver" / "chat_template.jinja").is_file()


def test_training_moves_the_weights_of_the_language_model_alone(whole: Path) -> None:
    from p2r.models.nano import CHECKPOINT

    before, after = load_file(CHECKPOINT / "model.safetensors"), load_file(whole / "1-reasoner" / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("model.language_model.") for name in moved)


def test_only_the_last_checkpoints_are_kept(whole: Path) -> None:
    kept = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert kept == ["000-000003", "001-000002"]


def test_a_finished_run_is_not_trained_again(whole: Path) -> None:
    before = read_metrics(whole)
    said = run(make_recipe(whole), resume=True)
    assert read_metrics(whole) == before
    assert not any(line.startswith("phase") for line in said)


def test_a_folder_with_a_run_is_not_overwritten(whole: Path) -> None:
    with pytest.raises(StorageError, match="holds a run already") as caught:
        run(make_recipe(whole))
    assert "`resume=True`" in caught.value.hint


def test_a_changed_recipe_is_refused_with_the_differences(whole: Path) -> None:
    changed = make_recipe(whole, ["loss.kl_coef=0.5", "rollout.group_size=4", "checkpoint.every=1"])
    with pytest.raises(
        StorageError, match=r"recipe: rollout.group_size was 3, now 4; loss.kl_coef was 0.01, now 0.5\n"
    ):
        run(changed, resume=True)


def test_a_prolonged_run_is_the_longer_one(tmp_path: Path) -> None:
    def make(out: Path, steps: int) -> Recipe:
        return make_recipe(out, [f'schedule=[{{role="perceiver", steps={steps}, lr=1e-4}}]', "probe.num=1"])

    run(make(tmp_path / "longer", 3))
    for steps in (1, 3):
        run(make(tmp_path / "prolonged", steps), resume=steps == 3)
    longer, prolonged = (tmp_path / name for name in ("longer", "prolonged"))
    assert read_metrics(prolonged) == read_metrics(longer)
    assert_equal_parts(*(out / "checkpoints" / "000-000003" / "part-0.pt" for out in (prolonged, longer)))


def test_a_phase_that_was_prolonged_and_cut_short_leaves_its_last_weights(tmp_path: Path) -> None:
    def make(steps: int) -> Recipe:
        return make_recipe(tmp_path / "run", [f'schedule=[{{role="perceiver", steps={steps}, lr=1e-4}}]', *settings])

    settings, ended = ["probe={}", "checkpoint.every=1"], tmp_path / "run" / "0-perceiver"
    run(make(1))
    first = (ended / "model.safetensors").read_bytes()
    with pytest.raises(KeyError):
        run(make(3), resume=True, stop_after=2)  # in step 3
    assert not ended.exists()
    run(make(2), resume=True)
    assert (ended / "model.safetensors").read_bytes() != first


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no run"):
        run(make_recipe(tmp_path / "run"), resume=True)


def test_a_guard_that_stopped_a_run_stops_it_again_until_it_is_told_otherwise(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at recorded steps, and so it stops a run again before the model is loaded."""
    loaded: list[str] = []
    monkeypatch.setattr(
        phases, "load_policy", lambda *given, **named: loaded.append("") or load_policy(*given, **named)
    )

    def make(*guards: str) -> Recipe:
        return make_recipe(tmp_path / "run", ["guards.patience=1", "guards.entropy_floor=100", *guards])

    sentences: list[str] = []
    for resume in (False, True, True):
        with pytest.raises(TrainingError, match="stopped at step 1 of phase 0-perceiver: entropy is") as caught:
            run(make('guards.action="stop"'), resume=resume)
        sentences.append(caught.value.message)
        assert 'resume with guards.action = "warn"' in caught.value.hint
        assert len(read_metrics(tmp_path / "run")) == 1
    assert len(set(sentences)) == 1 == len(loaded)
    with pytest.raises(TrainingError, match="stopped at step 2"):  # another limit, which the next step exceeds
        run(make('guards.action="stop"', "guards.patience=2"), resume=True)
    run(make('guards.action="warn"'), resume=True)
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("allowed", [0.1, 1.0])
def test_images_that_go_missing_stop_a_run_or_are_counted(tmp_path: Path, allowed: float) -> None:
    images = [tmp_path / f"{number}.png" for number in range(4)]
    for image in images:
        Image.effect_noise((160, 120), 40).save(image)
    rows = [{"id": image.stem, "image": image.name, "question": "What is it?", "target": "a kite"} for image in images]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = [f"data.source={tmp_path / 'rows.jsonl'}", "data.num_rows=4", "rollout.prompts_per_step=4"]
    changes += ['schedule=[{role="perceiver", steps=2}]', f"partner.max_error_rate={allowed}", "probe.num=1"]
    recipe = make_recipe(tmp_path / "run", [*changes, "rollout.group_size=6"])

    def remove(*_: object) -> None:
        for image in images[1:]:
            image.unlink(missing_ok=True)

    if allowed < 1:
        with pytest.raises(TooManyErrors, match="18 of the latest 48 rollouts could not be judged, 6 of them because"):
            train(recipe, watcher=Watcher(step=remove))
        assert len(read_metrics(tmp_path / "run")) == 1
    else:
        train(recipe, watcher=Watcher(step=remove))
        last = read_metrics(tmp_path / "run")[-1]
        assert (last["num_rows"], last["num_failed_rows"], last["num_groups"]) == (4, 3, 1)
