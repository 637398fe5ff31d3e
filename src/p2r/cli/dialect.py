"""`p2r dialect import`: the authors' own prompts for `--mode tools:NAME` and `p2r:NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from p2r.roles.dialects.texts import AUTHORS, import_texts

DIALECT_EXAMPLES = """
**Examples**

- `p2r dialect import deepeyes ~/src/DeepEyes` takes the prompts out of a checkout of the authors' repository.
"""


def dialect(
    action: Annotated[Literal["import"], typer.Argument(help="import: take the authors' prompts.", metavar="ACTION")],
    name: Annotated[str, typer.Argument(help=f"The dialect: {', '.join(AUTHORS)}.")],
    checkout: Annotated[Path, typer.Argument(help="The folder of a checkout of the authors' repository.")],
) -> None:
    """Take the authors' own prompts for `--mode tools:NAME` or `p2r:NAME` out of their repository.

    Without them, p2r asks in its own words. They are known by their SHA-256, and kept in your folder of data
    (XDG_DATA_HOME); remove them there to ask in p2r's words again. Nothing of the repository is run.
    """
    folder = import_texts(name, checkout.expanduser())
    typer.echo(f"{name} is asked in the authors' words from now on; they are in {folder}")
