"""The command `p2r`. Results go to stdout, progress and errors to stderr.

Exit codes: 0 success, 1 error, 2 usage, 130 Ctrl-C, 143 SIGTERM. A command's module is imported when the command is
called, so that `p2r --help` loads neither a model's libraries nor a benchmark.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from p2r.cli.guard import guarded
from p2r.cli.usage import explaining_misuse
from p2r.signals import INTERRUPTED, TERMINATED
from p2r.version import __version__

HELP = """
Ask a vision-language model that looks first, then answers.

The model says where the evidence is, the boxes are cut out of the full-resolution image, and the model answers from
those crops.

**Start here**

- `p2r demo` makes images, asks the small model that ships with p2r, and writes a report.

- `p2r ask out/demo/image.png "What patterns are on the green triangle and the orange triangle?"` asks
about an image that the demo has written.

**Then use a real model for your photos**

- `p2r models` lists some. The small model knows the demo's images only.

- `p2r ask photo.jpg "What does the sign say?" --model p2r-4b` runs one on a GPU.

- `p2r ask photo.jpg "What does the sign say?" --model http://localhost:8000/v1#P2R-4B` asks a server.
"""


class Home(NamedTuple):
    """The place of a command: a module of `p2r.cli`, its function, and the name of its examples there.

    summary: the line in `p2r --help`, which is shown without importing the module.
    """

    module: str
    function: str
    examples: str
    summary: str


COMMANDS = {
    "ask": Home("ask", "ask", "EXAMPLES", "Ask a question about an image, or about many."),
    "demo": Home("demo", "demo", "", "Watch a small model fail with one look and answer with two."),
    "eval": Home("evaluate", "evaluate_benchmarks", "EVAL_EXAMPLES", "Evaluate a model on benchmarks."),
    "serve": Home("serve", "serve", "SERVE_EXAMPLES", "Serve a model to OpenAI clients, with walks as its answers."),
    "mcp": Home("mcp", "mcp", "MCP_EXAMPLES", "Give agents tools that look: over MCP."),
    "train": Home("train", "train", "TRAIN_EXAMPLES", "Train the perceiver and the reasoner in turns."),
    "sft": Home("train", "sft", "SFT_EXAMPLES", "Teach a model replies before rewards take over."),
    "sample": Home("sample", "sample", "SAMPLE_EXAMPLES", "Sort rows into easy, medium and hard for a model."),
    "study": Home("study", "study", "STUDY_EXAMPLES", "Test claims: train and ask several arms, and judge."),
    "score": Home("runs", "score", "", "Score a run again from its stored replies."),
    "compare": Home("runs", "compare", "", "Compare runs on the same samples, with exact tests."),
    "report": Home("report", "report", "REPORT_EXAMPLES", "Show runs side by side as one HTML file."),
    "power": Home("power", "power", "POWER_EXAMPLES", "Say before a run what differences it can show."),
    "merge": Home("runs", "merge", "", "Join the shards of a run in a new folder."),
    "check": Home("check", "check", "", "Prove that a benchmark is fit to be run."),
    "convert": Home("convert", "convert_layout", "CONVERT_EXAMPLES", "Write questions in another tool's layout."),
    "export": Home("export", "export", "EXPORT_EXAMPLES", "Write a model in another program's files (GGUF)."),
    "doctor": Home("doctor", "doctor", "DOCTOR_EXAMPLES", "Find out what a server does with images and boxes."),
    "dialect": Home("dialect", "dialect", "DIALECT_EXAMPLES", "Take other systems' own prompts from their code."),
    "models": Home("models", "models", "", "List models by short name: license, size, what they need."),
    "leakage": Home("leakage", "leakage", "LEAKAGE_EXAMPLES", "Find the images and questions that data sets share."),
}
_SETTINGS = {"help_option_names": ["-h", "--help"]}


def load_command(name: str) -> TyperCommand:
    """Import a command's module and make the command. Raises KeyError for an unknown name."""
    home = COMMANDS[name]
    try:
        module = import_module(f"p2r.cli.{home.module}")
    except RuntimeError as error:  # Ctrl-C while a class is made, before Python 3.12
        raise (KeyboardInterrupt if isinstance(error.__cause__, KeyboardInterrupt) else error) from None
    alone = typer.Typer(rich_markup_mode="markdown", add_completion=False, context_settings=_SETTINGS)
    epilog = getattr(module, home.examples) if home.examples else None
    alone.command(name, epilog=epilog)(guarded(getattr(module, home.function)))
    command = get_command(alone)
    assert isinstance(command, TyperCommand)
    return command


class LazyCommand(TyperCommand):
    """Stands for a command in the list of `p2r --help`; its module is imported when the command is called."""

    def make_context(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401  # typer keeps the types of it to itself
        """Parse the arguments as the real command does; what is invoked then is the real command."""
        with explaining_misuse(f"p2r {self.name}"):
            return load_command(str(self.name)).make_context(*args, **extra)


class Commands(TyperGroup):
    """`p2r` itself, which reports a call that typer refuses as every other error."""

    def make_context(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401
        """Parse the options before the command."""
        with explaining_misuse("p2r"):
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Find the command, parse its arguments, and run it."""
        with explaining_misuse("p2r", COMMANDS):
            return super().invoke(ctx)


app = typer.Typer(
    name="p2r",
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)
for _name, _home in COMMANDS.items():
    app.command(_name, cls=LazyCommand, short_help=_home.summary)(lambda: None)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"p2r {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Read the options that stand before a command."""


def main() -> None:
    """Run the command. What the encoding of the output cannot show is written as an escape, never a failure."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # tests and notebooks put others in its place
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="p2r")
    except SystemExit as end:
        if end.code in (INTERRUPTED, TERMINATED):
            _end_at_once(end.code)
        raise
    finally:
        forget_garbage()


def _end_at_once(code: int) -> None:
    """End without Python's own end, which aborts the process where a thread that was left is in torch."""
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]  # there is no public way
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it
            stream.flush()
    os._exit(code)


def forget_garbage() -> None:
    """Leave what is in memory to the end of the process.

    Python would search all of it for garbage first. With torch and a model that takes more than a second.
    """
    gc.disable()
    gc.freeze()
