"""The command `p2r`. Results go to stdout, progress and errors to stderr.

Exit codes: 0 fine, 1 error, 2 usage, 130 Ctrl-C.
"""

from __future__ import annotations

from typing import Annotated

import typer

from p2r.cli.ask import EXAMPLES, ask
from p2r.cli.check import check
from p2r.cli.demo import demo
from p2r.cli.evaluate import EVAL_EXAMPLES, evaluate_benchmarks
from p2r.cli.guard import guarded
from p2r.cli.leakage import LEAKAGE_EXAMPLES, leakage
from p2r.cli.report import REPORT_EXAMPLES, report
from p2r.cli.runs import compare, merge, score
from p2r.cli.train import TRAIN_EXAMPLES, train
from p2r.version import __version__

HELP = """
A vision-language model that looks first, then answers.

It says where the evidence is, the boxes are cut out of the full-resolution image, and it answers from those crops.

**Start here**

- `p2r demo` makes images, lets the small model that ships with p2r answer, and writes a report.

- `p2r ask photo.jpg "What is on the sail?" --options "a star,a fish"` asks about an image of yours.

**Then a real model**

- `p2r ask photo.jpg "What does the sign say?" --model hongxingli/P2R-4B` on a GPU.

- `p2r ask photo.jpg "What does the sign say?" --model http://localhost:8000/v1#my-model` behind a server.
"""

app = typer.Typer(
    name="p2r",
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=EXAMPLES)(guarded(ask))
app.command()(guarded(demo))
app.command("eval", epilog=EVAL_EXAMPLES)(guarded(evaluate_benchmarks))
app.command(epilog=TRAIN_EXAMPLES)(guarded(train))
app.command()(guarded(score))
app.command()(guarded(compare))
app.command(epilog=REPORT_EXAMPLES)(guarded(report))
app.command()(guarded(merge))
app.command()(guarded(check))
app.command(epilog=LEAKAGE_EXAMPLES)(guarded(leakage))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"p2r {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options before any command."""


def main() -> None:
    app()
