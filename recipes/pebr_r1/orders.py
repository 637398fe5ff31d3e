"""Train nano in three orders from one warm-up: PeBR-R1's, its two stages swapped, and PRA-GRPO.

    python -m recipes.pebr_r1.captions --out runs/pebr-rows
    p2r sft recipes/pebr_r1/nano.toml --set out=runs/pebr/warm-up
    p2r sample runs/pebr-rows/train.jsonl --model runs/pebr/warm-up/0-sft --prompts recipes/pebr_r1/prompts \\
        --top-p 0.99 --max-new-tokens 160 --out runs/pebr/sampled
    python -m recipes.pebr_r1.orders --seed 0 --out runs/pebr

Writes OUT/pebr-r1-SEED, OUT/swapped-SEED, and OUT/pra-grpo-SEED. A run that is there already is resumed, or left as it
is if it has finished. `p2r train recipes/pebr_r1/nano.toml` does the warm-up, the sampling, and the first order in one
run; here they are apart, so that all orders and seeds have the same start and the same easy and medium rows.

PRA-GRPO has the settings of recipes/nano/pra_grpo.toml and all rows, and takes as many steps, with as many rollouts, as
the two stages. The seed changes what is sampled, and not the warm-up, which samples nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from p2r import train
from p2r.cli.guard import run_script
from p2r.config import PhaseSettings, ProbeSettings, Recipe, load_recipe

RECIPES = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the runs")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting of nano.toml")
    arguments = parser.parse_args()
    for recipe in make_orders(arguments.out, arguments.seed, arguments.set):
        run = train(recipe, resume=recipe.out.is_dir())
        print(run.folder)


def make_orders(out: Path, seed: int, changes: Sequence[str] = ()) -> list[Recipe]:
    """The recipes of the three runs, which begin with the checkpoint and the rows in `out`."""
    own = load_recipe(RECIPES / "pebr_r1" / "nano.toml", [*changes, f"seed={seed}"])
    _, perception, reasoning = own.schedule
    easy, medium = (_take_rows(phase, own, out / "sampled") for phase in (perception, reasoning))
    warmed_up = str(out / "warm-up" / own.phases()[0].name)

    def begin(name: str, first: PhaseSettings, second: PhaseSettings) -> Recipe:
        schedule = (first.model_copy(update={"source": warmed_up}), second)
        return own.model_copy(update={"out": out / f"{name}-{seed}", "schedule": schedule})

    pra_grpo = load_recipe(
        RECIPES / "nano" / "pra_grpo.toml",
        [
            *(f"seed={seed}", f"out={out / f'pra-grpo-{seed}'}", f"data.source={own.data.source}"),
            *(f"schedule.0.source={warmed_up}", f"schedule.0.steps={perception.steps}"),
            *(f"schedule.1.steps={reasoning.steps}", f"rollout.prompts_per_step={own.rollout.prompts_per_step}"),
        ],
    )
    return [
        begin("pebr-r1", easy, medium),
        begin("swapped", medium, easy),
        pra_grpo.model_copy(update={"probe": ProbeSettings()}),
    ]


def _take_rows(phase: PhaseSettings, recipe: Recipe, sampled: Path) -> PhaseSettings:
    """A phase with the rows that `p2r sample` found for it, in place of those that it would find itself."""
    data = phase.data or recipe.data
    if data.difficulty is None or data.difficulty.keep is None:
        return phase
    update = {"source": str(sampled / f"{data.difficulty.keep}.jsonl"), "difficulty": None}
    return phase.model_copy(update={"data": data.model_copy(update=update)})


if __name__ == "__main__":
    run_script(main)
