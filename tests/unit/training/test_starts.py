"""Where the weights of a phase come from."""

from __future__ import annotations

from pathlib import Path

from p2r.config import parse_recipe
from p2r.training.starts import Start, find_start

RUN = Path("run")
SFT = "{role='perceiver', method='sft', data={source='rows.jsonl'}}"


def list_starts(*changes: str) -> list[Start]:
    recipe = parse_recipe({"out": "run", "data": {"num_rows": 9}, "model": {"source": "nano-base"}}, changes)
    return [find_start(recipe, phase, RUN) for phase in recipe.phases()]


def test_a_phase_starts_from_the_one_before_or_from_its_own_source() -> None:
    starts = list_starts("schedule=[{role='perceiver'}, {role='reasoner', source='nano'}, {role='reasoner'}]")
    assert starts == [Start("nano-base"), Start("nano"), Start("run/1-reasoner")]


def test_with_an_adapter_for_each_role_both_go_on_with_their_own() -> None:
    assert list_starts("model.lora.per_role=true", "iterations=2") == [
        Start("nano-base", "nano-base"),
        Start("nano-base", "run/0-perceiver"),
        Start("run/0-perceiver", "run/1-reasoner"),
        Start("run/1-reasoner", "run/2-perceiver"),
    ]


def test_a_supervised_phase_teaches_the_adapter_of_its_role() -> None:
    schedule = f"schedule=[{SFT}, {{role='perceiver'}}, {{role='reasoner'}}]"
    assert list_starts("model.lora.per_role=true", schedule) == [
        Start("nano-base", "nano-base"),
        Start("run/0-sft", "nano-base"),
        Start("nano-base", "run/1-perceiver"),
    ]
