"""The options by which every command names its model, and how it is asked."""

from __future__ import annotations

from typing import Annotated

import typer

from p2r.models.server.transport import Transport

MODEL = "The model"
DEFAULT_TIMEOUT_S = 300.0

ModelSpec = Annotated[
    str,
    typer.Option(
        help="nano, nano-base, a checkpoint folder, a hub id, vllm: before these, or a server's URL with #model.",
        rich_help_panel=MODEL,
    ),
]
PerceiverSpec = Annotated[
    str | None,
    typer.Option(help="Another model that says where to look.", show_default=False, rich_help_panel=MODEL),
]
Wording = Annotated[str, typer.Option(help="Wording: release, paper, or a folder of your own.", rich_help_panel=MODEL)]
MaxPixels = Annotated[
    int | None,
    typer.Option(help="Most pixels of an image or crop the model is shown.", show_default=False, rich_help_panel=MODEL),
]
Device = Annotated[
    str | None,
    typer.Option(help="Of a local model, e.g. cpu or cuda:1.", show_default=False, rich_help_panel=MODEL),
]
Dtype = Annotated[
    str | None, typer.Option(help="Of a local model, e.g. bfloat16.", show_default=False, rich_help_panel=MODEL)
]
TimeoutS = Annotated[float, typer.Option(help="Longest wait for one reply of a server.", rich_help_panel=MODEL)]
ImageTransport = Annotated[Transport, typer.Option(help="How images travel to a server.", rich_help_panel=MODEL)]
