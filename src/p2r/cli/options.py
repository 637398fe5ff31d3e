"""The options that name a model and say how to ask it; several commands share them."""

from __future__ import annotations

from typing import Annotated

import typer

from p2r.models.server.transport import Transport

MODEL = "The model"
DEFAULT_TIMEOUT_S = 300.0

ModelSpec = Annotated[
    str,
    typer.Option(
        help="Ask nano, nano-base, a checkpoint folder, a hub id, one of these after vllm:, or a server's URL#model.",
        rich_help_panel=MODEL,
    ),
]
PerceiverSpec = Annotated[
    str | None,
    typer.Option(help="Let another model say where to look.", show_default=False, rich_help_panel=MODEL),
]
Wording = Annotated[
    str, typer.Option(help="Use the prompts release, paper, or those in your own folder.", rich_help_panel=MODEL)
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        help="Show the model at most this many pixels of an image or crop.", show_default=False, rich_help_panel=MODEL
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
TimeoutS = Annotated[
    float, typer.Option(help="Wait at most this many seconds for a server's reply.", rich_help_panel=MODEL)
]
ImageTransport = Annotated[
    Transport, typer.Option(help="Send images to a server in this format.", rich_help_panel=MODEL)
]
