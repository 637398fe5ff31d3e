"""`p2r export`: a checkpoint in the files of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from p2r.cli.screen import count_progress, make_console
from p2r.models.gguf.export import export_gguf
from p2r.models.gguf.weights import DtypeName
from p2r.models.load import find_checkpoint

EXPORT_EXAMPLES = """
**Examples**

- `p2r export gguf runs/mine/1-reasoner my-model`

- `p2r export gguf p2r-4b p2r-4b --dtype float16`

- `llama-server -m my-model/my-model-BF16.gguf --mmproj my-model/mmproj-my-model-BF16.gguf -c 16384 -np 2`
serves it, and `p2r ask photo.jpg "Read the sign." --model http://127.0.0.1:8080/v1 --profile runs/mine/1-reasoner`
asks it.
"""


def export(
    layout: Annotated[
        Literal["gguf"], typer.Argument(metavar="FORMAT", help="gguf, for llama.cpp and what is built on it.")
    ],
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A folder, a hub id, or a name that `p2r models` lists.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The new folder to write; its name is the model's in other programs.")
    ],
    dtype: Annotated[
        DtypeName | None,
        typer.Option(help="Store matrices in this dtype. Default: the checkpoint's own.", show_default=False),
    ] = None,
) -> None:
    """Write a Qwen3-VL as two GGUF files: the language model, and the vision encoder (mmproj).

    They hold the weights, the tokenizer, the chat template, and the sizes between which images are left as they are. A
    model trained with LoRA is written as its merged weights. To quantize the file of the language model further, use
    llama.cpp's llama-quantize.
    """
    opened = find_checkpoint(checkpoint)
    with count_progress(make_console(stderr=True), "tensors") as on_done:
        files = export_gguf(opened, out, dtype=dtype, on_progress=on_done)
    console = make_console()
    for path in (files.language, files.vision):
        console.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", markup=False, soft_wrap=True)
    for note in files.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(f"serve: llama-server -m {files.language} --mmproj {files.vision}", markup=False, soft_wrap=True)
    asking = f"p2r ask IMAGE QUESTION --model http://127.0.0.1:8080/v1 --profile {checkpoint}"
    console.print(f"ask: {asking}", markup=False, soft_wrap=True)
