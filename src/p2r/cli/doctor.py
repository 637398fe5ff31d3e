"""`p2r doctor`: what a served model does with images and boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from p2r.cli.evaluate import evaluate_benchmarks
from p2r.cli.flags import find_flags, write_flags
from p2r.cli.guard import print_error
from p2r.cli.options import DEFAULT_TIMEOUT_S
from p2r.cli.screen import count_progress, make_console
from p2r.doctor.examine import examine
from p2r.doctor.findings import State
from p2r.errors import ConfigError, StorageError, count_nouns
from p2r.files import check_folder
from p2r.models.server.measured import read_measured

DOCTOR_EXAMPLES = """
**Examples**

- `p2r doctor http://localhost:8000/v1`

- `p2r doctor http://localhost:8000/v1 --model my-model --out my-model.json`, and then
`p2r eval vstar:data/vstar_bench --model http://localhost:8000/v1#my-model --profile my-model.json`
"""
STYLES: dict[State, tuple[str, str]] = {
    "good": ("good", "green"),
    "note": ("note", "cyan"),
    "bad": ("bad", "bold red"),
    "unknown": ("?", "dim"),
}


def doctor(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server's URL, such as http://localhost:8000/v1.")],
    model: Annotated[
        str | None, typer.Option(help="Examine this model of the server. Default: its only one.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write what was measured into this file, for --profile.", show_default=False, dir_okay=False),
    ] = None,
    timeout_s: Annotated[float, typer.Option(min=1, help="Wait this long for a reply.")] = DEFAULT_TIMEOUT_S,
) -> None:
    """Find out what a server does with images, boxes, and settings, and what follows from it.

    It is asked some 60 short questions about charts that are drawn here: how it sizes images, whether it sees each of
    several and in which order, in which frame the model writes boxes, and whether replies repeat. Exit code 1 when
    something is found that would make results wrong.
    """
    if model is not None and "#" in url:
        raise ConfigError(f"the URL names a model already, and `model` is {model!r}", hint="leave one of them out")
    if out is not None:
        check_folder(out.parent)
        if out.exists():
            check_is_ours(out)
    messages, console = make_console(stderr=True), make_console()
    with count_progress(messages, "checks") as on_done:
        found = examine(
            url if model is None else f"{url}#{model}",
            timeout_s=timeout_s,
            on_check=lambda _, done, total: on_done(done, total),
        )
    flags = find_flags(evaluate_benchmarks) | find_flags(doctor)
    for each in found.findings:
        word, style = STYLES[each.state]
        says = write_flags(each.says, flags)
        console.print(Text.assemble((f"{word:<5}", style), (f"{each.subject}: ", "bold"), says), soft_wrap=True)
        if each.so:
            console.print(Text(f"     {write_flags(each.so, flags)}"), soft_wrap=True)
    console.print(f"{count_nouns(found.num_asked, 'request')} to {found.profile.url}", markup=False, soft_wrap=True)
    if out is not None:
        found.profile.save(out)
        console.print(f"wrote {out}: use it with --profile {out}", markup=False, soft_wrap=True)
    if not found.is_fit:
        num = sum(each.state == "bad" for each in found.findings)
        print_error(f"{found.profile.model} at {found.profile.url} is not fit as it is: {count_nouns(num, 'problem')}")
        raise typer.Exit(1)


def check_is_ours(path: Path) -> None:
    """Refuse to write over a file that this command has not written. Raises StorageError."""
    try:
        read_measured(path)
    except ConfigError as error:
        raise StorageError(
            f"{path} exists and is no profile of `p2r doctor`", hint="name another file: `out`"
        ) from error
