"""Options that commands share, and those of `p2r eval`: which model, which benchmark, and how the run goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer
from pydantic import JsonValue

from p2r.cli.guard import MODEL_VARIABLE, Misuse
from p2r.config import read_value
from p2r.models.profiles import FamilyName
from p2r.models.server.token_check import ImageCheck
from p2r.models.server.transport import Transport
from p2r.modes import MODES
from p2r.types import Frame
from p2r.walks import Sharing

MODEL, DATA, RUN = "The model", "The benchmark", "The run"
DEFAULT_TIMEOUT_S = 300.0

ModelSpec = Annotated[
    str,
    typer.Option(
        help="Ask a model that `p2r models` lists, a checkpoint folder, a hub id, one of these after vllm:, or a "
        "server's URL#model.",
        envvar=MODEL_VARIABLE,
        rich_help_panel=MODEL,
    ),
]
PerceiverSpec = Annotated[
    str | None,
    typer.Option(help="Let another model say where to look.", show_default=False, rich_help_panel=MODEL),
]
JudgeSpec = Annotated[
    str | None,
    typer.Option(
        help="Let this model judge free answers whose words are not the target's.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Wording = Annotated[
    str, typer.Option(help="Use the prompts release, paper, or those in your own folder.", rich_help_panel=MODEL)
]
Profile = Annotated[
    str | None,
    typer.Option(
        help="State what a server's model is: a checkpoint folder, a hub id, a short name, or a file of `p2r doctor`.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
PerceiverProfile = Annotated[
    str | None,
    typer.Option(
        help="State it for --perceiver-model, where that is behind a server.", show_default=False, rich_help_panel=MODEL
    ),
]
Family = Annotated[
    FamilyName | None,
    typer.Option(
        help="State the family of the model that says where to look, where its name does not tell.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
BoxFrame = Annotated[
    Frame | None,
    typer.Option(
        help="Read its boxes as numbers from 0 to 1000 (per_mille), pixels of what it sees, 0 to 1 (unit), or pixels "
        "of the file (file_pixels).",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Show the model at most this many pixels of an image or crop.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
PerceiverNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Let the reply that says where to look have at most this many tokens. Default: 256.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
ReasonerNewTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Let the reply that answers have at most this many tokens. Default: 1024.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Run a local model on this device, e.g. cpu or cuda:1.", show_default=False, rich_help_panel=MODEL
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(help="Load a local model in this dtype, e.g. bfloat16.", show_default=False, rich_help_panel=MODEL),
]
EngineArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-arg",
        metavar="NAME=VALUE",
        help="Give vLLM's engine this argument, such as enforce_eager=true, for a model after vllm:. Repeatable.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
TimeoutS = Annotated[
    float, typer.Option(help="Wait at most this many seconds for a server's reply.", rich_help_panel=MODEL)
]
ImageTransport = Annotated[
    Transport, typer.Option(help="Send images to a server in this format.", rich_help_panel=MODEL)
]

ImageChecking = Annotated[
    ImageCheck,
    typer.Option(
        help="Fail a reply to images that the server altered: always, never, or from a near server of a known family "
        "(auto).",
        rich_help_panel=MODEL,
    ),
]

Modes = Annotated[
    list[str] | None,
    typer.Option(
        help=f"Ask in this mode: {', '.join(mode for mode in MODES if ':' not in mode)}; or tools:NAME, for "
        "the checkpoint of another system. Repeat it for several. Default: p2r.",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, help="Ask at most this many samples, drawn by --seed.", show_default=False, rich_help_panel=DATA
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        min=1,
        help="Draw so many replies to each question, and print Avg@k, pass@k, and a vote. Needs --temperature.",
        rich_help_panel=MODEL,
    ),
]
Shuffles = Annotated[
    int,
    typer.Option(min=1, help="Ask each question with its options in so many orders.", rich_help_panel=DATA),
]
Temperature = Annotated[
    float, typer.Option(min=0, max=2, help="Draw replies at this temperature; 0 is greedy.", rich_help_panel=MODEL)
]
Seed = Annotated[
    int,
    typer.Option(
        min=0, help="Seed needles, --limit, random boxes, option orders and drawn replies.", rich_help_panel=DATA
    ),
]
Split = Annotated[
    str | None,
    typer.Option(help="Load this split, where a benchmark has several.", show_default=False, rich_help_panel=DATA),
]
BoxSource = Annotated[
    Path | None,
    typer.Option(
        help="Take gold boxes from here: for V*, the original release; for your data, a COCO or Label Studio file.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
ImageFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder that image paths start from, if not that of the file.", show_default=False, rich_help_panel=DATA
    ),
]
SkipBad = Annotated[int, typer.Option(min=0, help="Leave out up to this many unusable rows.", rich_help_panel=DATA)]

RunFolder = Annotated[Path, typer.Option(help="Write each run into OUT/BENCHMARK/MODE.", rich_help_panel=RUN)]
Shard = Annotated[
    str | None,
    typer.Option(help="Ask only the i-th of n parts, written i/n.", show_default=False, rich_help_panel=RUN),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        help="Keep replies in this folder, which runs share, and ask nothing that is in it.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
SharePerception = Annotated[
    Sharing,
    typer.Option(
        help="Look once for samples that ask the same, or for all rotations of a question.", rich_help_panel=RUN
    ),
]
MaxErrorRate = Annotated[
    float, typer.Option(min=0, max=1, help="Stop when more than this share of answers fails.", rich_help_panel=RUN)
]
NumAtOnce = Annotated[int, typer.Option(min=1, help="Keep up to this many samples in flight.", rich_help_panel=RUN)]
ImageMemoryGb = Annotated[
    float,
    typer.Option(
        min=0, help="Give images at most this much memory; less keeps fewer large ones in flight.", rich_help_panel=RUN
    ),
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.", rich_help_panel=RUN)]


def read_engine_args(given: list[str] | None) -> dict[str, JsonValue]:
    """Read NAME=VALUE each, with the value as in TOML. vLLM's own spelling of a flag, with - for _, is a name as well.

    Raises:
        Misuse: one is not of that form, or is given twice.
    """
    args: dict[str, JsonValue] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals or not name:
            raise Misuse(f"`engine_args` is {one!r}, which is not NAME=VALUE", hint="write it like enforce_eager=true")
        if name in args:
            raise Misuse(f"`engine_args` names {name} twice", hint="give each argument once")
        args[name] = cast(JsonValue, read_value(value))
    return args
