"""The recipes of PeBR-R1: what they hold, and a very short run of nano's in all orders, with its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.benchmarks import Benchmark
from p2r.config import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "pebr_r1"


def test_the_large_recipe_holds_the_published_values() -> None:
    recipe = load_recipe(RECIPES / "qwen2_5_vl_7b.toml")
    warmup, perception, reasoning = recipe.phases()
    assert [phase.kind for phase in recipe.phases()] == ["sft", "answerer", "answerer"]
    assert [phase.freeze_vision for phase in recipe.phases()] == [True, False, False]
    assert (warmup.lr, warmup.passes, warmup.optimizer.scheduler, warmup.optimizer.warmup_share) == (
        *(1e-5, 2, "cosine"),
        0.1,
    )
    assert (warmup.sft.leave_out, warmup.sft.min_image_side, warmup.sft.max_tokens) == (
        *(("let me rethink it",), 28),
        4096,
    )
    assert (perception.passes, reasoning.passes) == (1, 2)
    assert perception.reward.active_terms == {
        "caption_similarity": 0.4,
        "keywords": 0.4,
        "sections": 0.1,
        "length": 0.1,
        "correct": 0.0,
    }
    assert reasoning.reward.active_terms == {"correct": 0.9, "sections": 0.1}
    for phase, keep, prompts, part in ((perception, "easy", 560, 112), (reasoning, "medium", 512, 128)):
        assert phase.data.difficulty is not None
        assert (phase.data.difficulty.keep, phase.data.difficulty.num_rollouts) == (keep, 8)
        assert (phase.prompts_per_step, phase.prompts_per_update, phase.rollout.group_size) == (prompts, part, 8)
        assert (phase.rollout.temperature, phase.rollout.top_p, phase.lr, phase.loss.kl_coef) == (1.2, 0.99, 1e-6, 0.01)
        assert (phase.rollout.prompts, phase.rollout.max_new_tokens.reasoner) == ("pebr_r1", 2048)
        assert not phase.reward.active_vetoes
    assert recipe.model.max_pixels == 802_816


def test_nanos_recipe_has_the_same_phases() -> None:
    large, nano = (load_recipe(RECIPES / f"{name}.toml").phases() for name in ("qwen2_5_vl_7b", "nano"))
    assert [phase.name for phase in large] == [phase.name for phase in nano]
    for one, other in zip(large[1:], nano[1:], strict=True):
        assert one.data.difficulty is not None and other.data.difficulty is not None
        assert one.data.difficulty.keep == other.data.difficulty.keep
    assert set(nano[1].reward.active_terms) == set(large[1].reward.active_terms) - {"caption_similarity"}
    assert nano[2].reward == large[2].reward.model_copy(update={"caption": nano[2].reward.caption})


@pytest.mark.slow
def test_a_short_run_in_all_orders_ends_in_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from p2r import train
    from recipes.pebr_r1 import captions, orders, table

    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "runs" / "pebr-rows"
    for name, count in (("warm_up", 20), ("train", 6), ("held_out", 4)):
        captions.write_file(rows, name, [captions.write_row(rows, name, index) for index in range(count)])
    short = [
        *("schedule.0.steps=1", "schedule.1.steps=1", "schedule.2.steps=1", "sft.rows_per_step=10"),
        *("rollout.group_size=2", "rollout.prompts_per_step=2", "rollout.max_new_tokens={perceiver=8, reasoner=16}"),
        f"rollout.prompts={captions.PROMPTS}",
    ]
    whole, out = load_recipe(RECIPES / "nano.toml", short), tmp_path / "runs" / "pebr"
    train(whole.model_copy(update={"out": out / "warm-up", "schedule": whole.schedule[:1]}))
    (out / "sampled").mkdir()
    for name in ("easy", "medium"):  # nothing is easy after one step
        lines = (rows / "train.jsonl").read_text(encoding="utf-8").replace("images/", f"{rows}/images/")
        (out / "sampled" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    for recipe in orders.make_orders(out, 3, [*short, "partner.max_new_tokens=8"]):
        train(recipe)

    def ask(checkpoint: Path, held_out: Benchmark, seed: int, place: Path, prompts: str | None) -> table.Measured:
        """A reply of such a model has no end."""
        assert checkpoint.is_dir() and place.parent.parent.parent == out
        values = {sample.id: 1.0 for sample in held_out}
        return table.Measured(seed, prompts is None, dict.fromkeys(table.MEASURES, values))

    monkeypatch.setattr(table, "_ask", ask)
    monkeypatch.setattr("sys.argv", ["table", "--rows", str(rows), str(out)])
    table.main()
    printed = capsys.readouterr().out
    assert "| warm-up | 0 |" in printed
    for state in ("warm-up > perception > reasoning", "warm-up > reasoning > perception"):
        assert f"| {state} | 3 |" in printed
    assert "| warm-up > perceiver > reasoner > own boxes | 3 |  |  |" in printed
