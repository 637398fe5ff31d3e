"""`p2r convert`: a benchmark or training data in another layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from p2r.benchmarks import load_benchmark
from p2r.benchmarks.convert import WRITERS, convert
from p2r.benchmarks.needles import Needles
from p2r.cli.options import BoxSource, ImageFolder, Seed, SkipBad, Split
from p2r.cli.screen import count_progress, make_console
from p2r.errors import count_nouns
from p2r.types import Sample

CONVERT_EXAMPLES = """
**Examples**

- `p2r convert train.parquet train.jsonl --to ms_swift`

- `p2r convert my_questions.jsonl train.parquet --to easyr1`

- `p2r convert hiyouga/geometry3k geometry.json --to llava --split train`

- `p2r convert needles vstar_needles --to vstar`

- `p2r convert needles:families=where where --to reasonseg`

- `p2r convert my_questions.jsonl boxes.json --to coco`

- `p2r convert my_questions.jsonl corrected.jsonl --boxes boxes.json --to questions`
"""


def convert_layout(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="needles, needles:NAME=VALUE,..., NAME:PATH, a path, or a known hub id.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file or folder to write; its name tells its kind.")],
    to: Annotated[str, typer.Option(help=f"Write this layout: {', '.join(WRITERS)}.")],
    inside: Annotated[
        bool | None,
        typer.Option(
            help="Put images into the file, or into a folder beside it. Default: into parquet files only.",
            show_default=False,
        ),
    ] = None,
    num_samples: Annotated[int, typer.Option(min=1, help="Make so many needles.")] = 100,
    seed: Seed = 0,
    split: Split = None,
    boxes: BoxSource = None,
    images: ImageFolder = None,
    skip_bad: SkipBad = 0,
) -> None:
    """Write a benchmark or training data in another layout, and say what that layout has no place for."""
    messages = make_console(stderr=True)
    loaded = load_benchmark(
        source, split=split, seed=seed, num_samples=num_samples, boxes=boxes, images=images, skip_bad=skip_bad
    )
    samples: Sequence[Sample] = loaded
    if isinstance(loaded.samples, Needles) and to in WRITERS and WRITERS[to].only_choices:
        knobs = loaded.samples.knobs.model_copy(update={"forms": ("choice",)})
        samples = Needles(seed=seed, num_samples=num_samples, knobs=knobs)
    for remark in (
        *loaded.differences,
        *loaded.notes,
        *(f"left out {row.place}: {row.reason}" for row in loaded.left_out),
    ):
        messages.print(f"{loaded.name}: {remark}", markup=False, soft_wrap=True)
    with count_progress(messages, loaded.name) as on_done:
        found = convert(samples, out, to, inside=inside, on_progress=lambda done: on_done(done, len(samples)))
    console = make_console()
    count = count_nouns(found.num_samples, "sample")
    console.print(f"wrote {count} to {out}: {found.title}", markup=False, soft_wrap=True)
    for loss in found.losses:
        console.print(f"lost: {loss}", markup=False, soft_wrap=True)
