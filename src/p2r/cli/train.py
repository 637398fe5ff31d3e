"""`p2r train`: PRA-GRPO from a recipe, resumable."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from p2r.cli.allocator import share_heaps
from p2r.cli.guard import Misuse, end_interrupted, print_error
from p2r.cli.screen import make_console, progress
from p2r.config import Recipe, load_recipe
from p2r.errors import ConfigError, count_nouns, install_hint
from p2r.runs.training_log import Probe, Step
from p2r.training.watch.watcher import Watcher

if TYPE_CHECKING:
    from p2r.training.run import RunPhase

TRAIN_EXAMPLES = """
**Examples**

- `p2r train nano` (on two cores, with the small model that ships with p2r)

- `p2r train nano --resume` (continues a run that was stopped)

- `p2r train qwen3_vl_4b --set data.source=data/P2R-10k --plan`

- `p2r train qwen3_vl_8b --processes 8`

- `p2r train qwen3_vl_8b --engine verl --nodes 2 --gpus 8` (on a Ray cluster, by verl)
"""

SFT_EXAMPLES = """
**Examples**

- `p2r sft recipe.toml` (the supervised phases that the recipe begins with)

- `p2r train recipe.toml --resume` (continues with the phases after them)

A supervised phase is written in the recipe, with rows that hold replies:

    schedule = [{ role = "perceiver", method = "sft", passes = 2, lr = 1e-5, data = { source = "rows.jsonl" } }]
"""

RESUME = "resume the run with `resume=True`"
PLAN_TAKES = (
    "reading the rows, then measuring a trial of each kind of phase on a copy in memory: a minute or two with nano, "
    "longer with a large model or on a busy machine"
)


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="The name of a recipe, such as nano, or the path of a TOML file.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="A.B=C",
            help="Change a setting of the recipe, such as seed=2. Repeatable.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the recipe's folder, `out`, that was stopped.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what the run would do and cost, after a trial of each kind of phase.")
    ] = False,
    processes: Annotated[
        int,
        typer.Option(
            "--processes", min=1, help="Start so many processes on this machine: one per GPU, or one per core."
        ),
    ] = 1,
    engine: Annotated[
        Literal["own", "verl"],
        typer.Option("--engine", help="Sample and learn in p2r itself, or by verl on the machines of a Ray cluster."),
    ] = "own",
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Let verl use so many machines.")] = 1,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="Let verl use so many GPUs of each machine.")] = 1,
    engine_args: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-arg",
            metavar="NAME=VALUE",
            help="Override a setting of verl, such as actor_rollout_ref.actor.use_dynamic_bsz=true. Repeatable.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train the perceiver and the reasoner in turns, from right and wrong answers alone."""
    given = {"--nodes": nodes > 1, "--gpus": gpus > 1, "--engine-arg": bool(engine_args)}
    _check_engine(engine, processes, [flag for flag, is_given in given.items() if is_given])
    settings = load_recipe(recipe, changes or ())
    if engine == "verl":
        _run_on_verl(settings, nodes, gpus, engine_args or (), resume=resume, plan=plan)
        return
    _run(["train", recipe, *repeat_changes(changes)], settings, resume=resume, plan=plan, processes=processes)


def _check_engine(engine: str, processes: int, for_verl: Sequence[str]) -> None:
    """Refuse flags that the engine has no use for. for_verl: those that were given."""
    if engine != "verl" and for_verl:
        raise Misuse(f"{for_verl[0]} is said to verl, which was not asked for", hint="add `engine=verl`")
    if engine == "verl" and processes > 1:
        raise Misuse("--processes has no use beside verl, which starts its own", hint="give `nodes` and `gpus`")


def sft(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The name of a recipe, or the path of a TOML file.")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="A.B=C",
            help="Change a setting of the recipe, such as seed=2. Repeatable.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the recipe's folder, `out`, that was stopped.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print what the run would do and cost, after a trial.")] = False,
    processes: Annotated[
        int,
        typer.Option(
            "--processes", min=1, help="Start so many processes on this machine: one per GPU, or one per core."
        ),
    ] = 1,
) -> None:
    """Teach a model replies word by word, from the rows of a recipe's supervised phases."""
    settings = load_recipe(recipe, changes or ())
    num_first = next((k for k, each in enumerate(settings.schedule) if each.method != "sft"), len(settings.schedule))
    if num_first == 0:
        raise ConfigError(
            f"the first phase of {recipe} is not a supervised one",
            hint='give it a phase like { role = "perceiver", method = "sft", data = { source = "rows.jsonl" } }',
        )
    # A run that `p2r train --resume` continues with the other phases.
    first = settings.model_copy(update={"schedule": settings.schedule[:num_first], "iterations": 1})
    _run(["sft", recipe, *repeat_changes(changes)], first, resume=resume, plan=plan, processes=processes)


def require_torch(what: str) -> None:
    """Make sure that what a command does can be done with what is installed. Raises ConfigError."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise ConfigError(
            f"{what} needs torch and transformers, which are not installed",
            hint=install_hint("train"),
        )


def repeat_changes(changes: list[str] | None) -> list[str]:
    """The flags that make these changes again."""
    return [part for change in changes or () for part in ("--set", change)]


def _run(command: list[str], settings: Recipe, *, resume: bool, plan: bool, processes: int) -> None:
    """Plan or train. command: what each of several processes is started with."""
    share_heaps()
    require_torch("training")
    from p2r.training.sources import check_sources

    check_sources(settings)  # which is quick, while what follows imports torch
    if plan:
        make_console(stderr=True).print(PLAN_TAKES, soft_wrap=True)
        from p2r.training.plan.plan import describe_plan

        for line in describe_plan(settings, num_processes=processes):
            print(line, flush=True)
        return
    if processes > 1:
        from p2r.training.processes import run_processes

        raise typer.Exit(run_processes(processes, [*command, *(["--resume"] if resume else [])]))
    is_first = os.environ.get("RANK", "0") == "0"
    _run_heeding_signals(settings, None, resume=resume, is_first=is_first)


def _run_on_verl(
    settings: Recipe, nodes: int, gpus: int, arguments: Sequence[str], *, resume: bool, plan: bool
) -> None:
    require_torch("training")
    from p2r.training.engines.verl.driver import Verl
    from p2r.training.sources import check_sources

    engine = Verl(nodes, gpus, arguments)
    check_sources(settings)
    if plan:
        for line in engine.describe(settings):
            print(line)
        return
    engine.check(settings)
    _run_heeding_signals(settings, engine.run_phase, resume=resume, is_first=True)


def _run_heeding_signals(settings: Recipe, run_phase: RunPhase | None, *, resume: bool, is_first: bool) -> None:
    from p2r.training.train import Interrupted

    try:
        _train(settings, run_phase, resume=resume, is_first=is_first)
    except Interrupted as error:
        if is_first:
            print_error(error.message, RESUME)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise end_interrupted(f"the last checkpoint is kept in {settings.out}", RESUME) from None


def _train(settings: Recipe, run_phase: RunPhase | None, *, resume: bool, is_first: bool) -> None:
    from p2r.training.train import train as run

    console = make_console(stderr=True)
    with progress(console, field="metrics", is_shown=is_first) as bars:
        lines = _Lines(console, bars)
        watcher = Watcher(say=lines.say, step=lines.step, probe=lines.probe)
        done = run(settings, resume=resume, watcher=watcher, run_phase=run_phase)
    for phase in done.phases if is_first else ():
        print(phase.checkpoint)


class _Lines:
    """A bar for each phase on a terminal, and a line for each step elsewhere."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self._console, self._progress = console, bars
        self._bars: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def step(self, row: Step, num_steps: int) -> None:
        if row.failures:
            cause, count = next(iter(row.failures.items()))  # the most frequent one comes first
            rollouts = count_nouns(count, "rollout is", "rollouts are")
            self.say(f"{row.phase} {row.step}/{num_steps}: {rollouts} left out because {cause}")
        text = _show(
            {
                "reward": row.reward,
                "loss": row.loss if row.num_learned_tokens else None,
                "KL": row.kl,
                "resting KL": row.resting_kl,
                "entropy": row.entropy,
                "dead": row.dead_groups if row.drawn_dead_groups is None else row.drawn_dead_groups,
                "boxes": row.mean_boxes,
            }
        )
        shares = (
            (row.num_failed_rows, row.num_rows, "row", "failed"),
            (row.num_unjudged, row.num_rollouts, "rollout", "not judged"),
        )
        parts = [text, *(f"{num:,} of {count_nouns(total, what)} {how}" for num, total, what, how in shares if num)]
        text = "  ".join(filter(None, [*parts, "nothing to learn from" if row.loss is None else ""]))
        if not self._console.is_terminal:
            self.say(f"{row.phase} {row.step}/{num_steps}  {text}")
            return
        if row.phase not in self._bars:
            self._bars[row.phase] = self._progress.add_task(row.phase, total=num_steps, metrics="")
        self._progress.update(self._bars[row.phase], completed=row.step, metrics=text)

    def probe(self, row: Probe) -> None:
        text = _show(
            {
                "p2r": row.accuracy_p2r,
                "direct": row.accuracy_direct,
                "hit rate": row.hit_rate,
                "in crops": row.seen_rate,
                "IoU": row.mean_iou,
                "boxes": row.mean_boxes,
            }
        )
        self.say(f"{row.phase} probe after step {row.step}: {text}")


def _show(metrics: Mapping[str, float | None]) -> str:
    """The metrics that are known, in one line."""
    return "  ".join(f"{name} {value:.3f}" for name, value in metrics.items() if value is not None)
