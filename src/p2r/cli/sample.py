"""`p2r sample`: roll out rows with a model, and sort them into easy, medium and hard ones by right answers."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import TaskID

from p2r.cli.allocator import share_heaps
from p2r.cli.guard import MODEL_VARIABLE, end_interrupted
from p2r.cli.options import (
    DATA,
    MODEL,
    RUN,
    BoxFrame,
    Device,
    Dtype,
    ImageFolder,
    MaxErrorRate,
    MaxPixels,
    NumAtOnce,
    SkipBad,
    Split,
    Wording,
)
from p2r.cli.screen import make_console, progress
from p2r.cli.train import require_torch
from p2r.config import DataSettings, Recipe, parse_recipe
from p2r.errors import ConfigError, P2RError, count_nouns, excerpt, mask_secrets
from p2r.images.find import is_url
from p2r.models.load import runs_on_torch
from p2r.runs.difficulty import KINDS, Kind, count_kinds, count_right, describe_kinds, draw_histogram, is_told
from p2r.training.sources import check_sources

if TYPE_CHECKING:
    from p2r.training.sample import SampledRows

SAMPLE_EXAMPLES = """
**Examples**

- `p2r sample needles --num 64 --rollouts 4` (with the small model that ships with p2r)

- `p2r sample rows.jsonl --model runs/warm_up/0-sft --prompts pebr_r1 --temperature 1.2 --top-p 0.99`

- `p2r train recipe.toml --set data.source=runs/sample/medium.jsonl`
"""

SETTINGS = {
    "data.images": "images",
    "data.num_rows": "num",
    "data.skip_bad": "skip_bad",
    "data.split": "split",
    "model.device": "device",
    "model.dtype": "dtype",
    "model.frame": "frame",
    "model.max_pixels": "max_pixels",
    "partner.max_error_rate": "max_error_rate",
    "reward.judge": "judge_model",
    "reward.judge.model": "judge_model",
    "reward.judge.url": "judge_model",
    "rollout.prompts": "prompts",
}
"""The arguments that take the place of a recipe's settings, which messages of training name."""
PHRASES = {
    "resume with `resume=True`": "give the same command again",
    'set reward.judge = "words"': "leave out `judge_model`",
}
"""Advice in messages of training, each with the advice to give here instead."""
_SETTING = re.compile(r'(?<![\w.])((?:data|model|partner|reward|rollout)(?:\.[a-z_]+)+)(?: = ("[^"]*"|[\w:/.-]*\w))?')


def sample(
    rows: Annotated[
        str,
        typer.Argument(
            metavar="ROWS",
            help="Rows to train on: a file, NAME:PATH, needles, needles:NAME=VALUE,..., or whatever data.source takes.",
        ),
    ],
    rollouts: Annotated[int, typer.Option(min=2, help="Answer each row this often.", rich_help_panel=RUN)] = 8,
    model: Annotated[
        str,
        typer.Option(
            help="Sample with nano, a checkpoint folder, or a hub id.", envvar=MODEL_VARIABLE, rich_help_panel=MODEL
        ),
    ] = "nano",
    role: Annotated[
        Literal["answerer", "perceiver", "reasoner"],
        typer.Option(
            help="Sample answers to the whole image, boxes that are then answered on, or answers on evidence.",
            rich_help_panel=MODEL,
        ),
    ] = "answerer",
    prompts: Wording = "release",
    temperature: Annotated[float, typer.Option(help="Sample at this temperature.", rich_help_panel=MODEL)] = 1.0,
    top_p: Annotated[
        float,
        typer.Option(
            help="Sample from the likeliest tokens that together have this probability.", rich_help_panel=MODEL
        ),
    ] = 1.0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cut replies off at this length. Default: 1024 for boxes, 2048 for answers.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    judge_model: Annotated[
        str | None,
        typer.Option(
            help="Let the model at this URL#name judge free answers whose words are not the target's.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    frame: BoxFrame = None,
    max_pixels: MaxPixels = None,
    num: Annotated[
        int | None,
        typer.Option(
            min=1, help="Use only the first so many rows; needles need it.", show_default=False, rich_help_panel=DATA
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed the rollouts, and needles.", rich_help_panel=DATA)] = 0,
    split: Split = None,
    images: ImageFolder = None,
    skip_bad: SkipBad = 0,
    out: Annotated[Path, typer.Option(help="Write into this folder.", rich_help_panel=RUN)] = Path("runs/sample"),
    max_error_rate: MaxErrorRate = 0.1,
    num_at_once: NumAtOnce = 8,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.", rich_help_panel=RUN)] = False,
) -> None:
    """Roll out every row several times, and sort the rows: easy (always right), medium, or hard (never right).

    A row whose rollouts failed is unjudged, and never hard. The same command resumes what was stopped.
    """
    share_heaps()
    require_torch("sampling")
    if not runs_on_torch(model):
        raise ConfigError(
            f"`model` is {mask_secrets(model)}: rows are sampled with a model in this process, as in training",
            hint="give nano, a checkpoint folder, or a hub id",
        )
    if num is None and DataSettings(source=rows).is_generated:
        raise ConfigError("needles never run out", hint="say how many rows to make, such as `num=64`")
    _check_sampling(temperature, top_p)
    tokens = None if max_new_tokens is None else {"perceiver": max_new_tokens, "reasoner": max_new_tokens}
    reward = {} if judge_model is None else {"judge": _read_judge(judge_model)}
    with settings_as_arguments():
        recipe = parse_recipe(
            {
                "out": str(out.expanduser()),
                "seed": seed,
                "schedule": [{"role": role}],
                "model": _leave_out_none(
                    source=model, device=device, dtype=dtype, frame=frame, max_pixels=max_pixels,
                    gradient_checkpointing=False,
                ),
                "data": _leave_out_none(
                    source=rows, split=split, images=None if images is None else str(images), seed=seed, num_rows=num,
                    skip_bad=skip_bad, difficulty={"num_rollouts": rollouts, "keep": "medium"},
                ),
                "rollout": _leave_out_none(
                    temperature=temperature, top_p=top_p, prompts=prompts, max_new_tokens=tokens,
                    prompts_at_once=num_at_once,
                ),
                "reward": reward,
                "partner": {"max_error_rate": max_error_rate},
            },
            where="",
        )  # fmt: skip
        check_sources(recipe)  # which is quick, while what follows imports torch
        try:
            found = _run(recipe)
        except KeyboardInterrupt:
            raise end_interrupted(f"what was measured is kept in {out}", "the same command resumes") from None
    _warn(found)
    if as_json:
        print(json.dumps(_describe(found), indent=2))
    else:
        _show(found)


def _leave_out_none(**settings: object) -> dict[str, object]:
    return {name: value for name, value in settings.items() if value is not None}


def _check_sampling(temperature: float, top_p: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ConfigError(
            f"`temperature` is {temperature:g}: it must be above 0", hint="at 0 all replies to a row would be alike"
        )
    if not 0 < top_p <= 1:
        raise ConfigError(f"`top_p` is {top_p:g}: it must be above 0 and at most 1", hint="1 samples from all tokens")


def _read_judge(spec: str) -> dict[str, str]:
    if not is_url(spec):
        raise ConfigError(
            f"`judge_model` is {excerpt(spec)}, which is not the address of a server",
            hint="serve the judging model, and give http://localhost:8000/v1#its-name",
        )
    return {"url": spec}


@contextmanager
def settings_as_arguments() -> Generator[None, None, None]:
    """Name arguments in errors, where training names the settings of a recipe."""
    try:
        yield
    except P2RError as error:
        for name in ("message", "hint"):
            text = str(getattr(error, name))
            for setting, argument in PHRASES.items():
                text = text.replace(setting, argument)
            setattr(error, name, _SETTING.sub(_name_argument, text))
        raise


def _name_argument(found: re.Match[str]) -> str:
    name, value = SETTINGS.get(found[1]), found[2]
    if name is None:
        return found[0]
    return f"`{name}`" if value is None else f"`{name}={value}`"


def _run(recipe: Recipe) -> SampledRows:
    from p2r.training.sample import sample_rows

    console = make_console(stderr=True)
    with progress(console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str) -> Callable[[int, int], None]:
            def move(done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=total)
                bars.update(tasks[name], completed=done, total=total)
                if name == ROLLED:
                    tell_progress(console, done, total)

            return move

        def say(text: str) -> None:
            console.print(text, markup=False, soft_wrap=True)

        return asyncio.run(sample_rows(recipe, say=say, on_checked=show("rows checked"), on_progress=show(ROLLED)))


ROLLED = "rows rolled out"


def tell_progress(console: Console, done: int, total: int) -> None:
    """Say how far a run has come where no bar is shown, in about ten lines."""
    if not console.is_terminal and done and is_told(done, total):
        console.print(f"{done:,} of {count_nouns(total, 'row')} rolled out", markup=False, soft_wrap=True)


def _describe(found: SampledRows) -> dict[str, object]:
    from p2r.training.rows.piles import name_pile

    return {
        "folder": str(found.folder),
        "num_rows": len(found.rows),
        "num_rollouts": found.num_rollouts,
        "kinds": count_kinds(found.found),
        "num_rows_by_num_right": count_right(found.found, found.num_rollouts),
        "files": {kind: str(name_pile(found.folder, kind)) for kind in KINDS},
    }


def _warn(found: SampledRows) -> None:
    """Say which rows have no kind, or no place in the files."""
    console = make_console(stderr=True)
    unjudged = [row for row in found.found if row.kind == "unjudged"]
    if unjudged:
        first = unjudged[0]
        count = count_nouns(len(unjudged), "row is unjudged", "rows are unjudged")
        text = f"{count}, because rollouts failed; the first is {first.id}: {first.failure}"
        console.print(text, markup=False, soft_wrap=True)
    if found.note:
        console.print(found.note, markup=False, soft_wrap=True)


def _show(found: SampledRows) -> None:
    from p2r.training.rows.piles import name_pile

    console, counts = make_console(), count_kinds(found.found)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    for line in draw_histogram(found.found, found.num_rollouts):
        say(line)
    say(f"{count_nouns(len(found.rows), 'row')}: {describe_kinds(counts)}; a file of each kind is in {found.folder}")
    wanted: tuple[Kind, ...] = ("medium", "easy")
    best: Kind | None = next((kind for kind in wanted if counts[kind]), None)
    if best is None:
        say("no row teaches this model: give easier rows, or another model")
    else:
        setting = shlex.quote(f"data.source={name_pile(found.folder, best)}")
        say(f"to train on the {best} ones: p2r train RECIPE --set {setting}")
