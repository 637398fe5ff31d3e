"""`p2r ask`: one question about one image, or many questions about many, which can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2r.api import P2R, AskMode, make_sample
from p2r.cli.asked_page import HtmlFile, check_page, write_asked_page
from p2r.cli.batch import ask_batch
from p2r.cli.options import (
    DEFAULT_TIMEOUT_S,
    MODEL,
    BoxFrame,
    Device,
    Dtype,
    Family,
    ImageTransport,
    MaxPixels,
    ModelSpec,
    PerceiverSpec,
    TimeoutS,
    Wording,
)
from p2r.cli.questions import is_batch, read_folder, read_rows
from p2r.cli.screen import make_console, print_trace
from p2r.dialogue import Model
from p2r.evaluation.counts import explain_frame
from p2r.images.load import MAX_IMAGE_PIXELS, FileImage, MemoryImage
from p2r.models.load import load_model
from p2r.prompts import load_prompt_set
from p2r.report.trace import save_trace
from p2r.runs.asked import IMAGES_FOLDER, BatchSettings
from p2r.types import AnswerForm, Sample

QUESTION, FILES = "The question", "Files"

EXAMPLES = """
**Examples**

- `p2r ask boat.jpg "What is on the sail?"`

- `p2r ask boat.jpg "What is on the sail?" --options "a star,a fish" --save out`

- `p2r ask boat.jpg "How many oars?" --answer-form number --model hongxingli/P2R-4B`

- `p2r ask photos/ "Is there a person?" --options yes,no --save runs/people` (every image in the folder)

- `p2r ask questions.jsonl --model http://localhost:8000/v1#my-model` (of lines `{"image": "a.jpg", "question": "..."}`)
"""


def ask(
    image: Annotated[Path, typer.Argument(help="An image, a folder of images, or a .jsonl file of questions.")],
    question: Annotated[
        str | None, typer.Argument(help="What you want to know. A .jsonl file has its own questions.")
    ] = None,
    options: Annotated[
        str | None,
        typer.Option(help='The answers to choose from, as "a,b,c".', show_default=False, rich_help_panel=QUESTION),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="One answer to choose from; repeat it for each. Needed for answers with commas.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    answer_form: Annotated[
        AnswerForm | None,
        typer.Option(
            help="What kind of answer is asked for. By default choice with options, else free_form.",
            show_default=False,
            rich_help_panel=QUESTION,
        ),
    ] = None,
    model: ModelSpec = "nano",
    perceiver_model: PerceiverSpec = None,
    mode: Annotated[
        AskMode,
        typer.Option(
            help="Look twice (p2r), once (direct, thinking), or as often as the model wants (tools, zoom).",
            rich_help_panel=MODEL,
        ),
    ] = "p2r",
    prompts: Wording = "release",
    family: Family = None,
    frame: BoxFrame = None,
    max_pixels: MaxPixels = None,
    max_image_pixels: Annotated[
        int,
        typer.Option(help="Refuse larger images, which may be decompression bombs.", rich_help_panel=FILES),
    ] = MAX_IMAGE_PIXELS,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Save the annotated image, the crops and the trace in this folder.",
            show_default=False,
            rich_help_panel=FILES,
        ),
    ] = None,
    html: HtmlFile = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the whole trace as a line of JSON.", rich_help_panel=FILES)
    ] = False,
    num_at_once: Annotated[
        int, typer.Option(min=1, help="Ask at most this many questions at a time.", rich_help_panel=FILES)
    ] = 8,
    device: Device = None,
    dtype: Dtype = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    transport: ImageTransport = "auto",
) -> None:
    """Ask a question about an image, and print the answer and where it was found."""
    answers = split_options(options, option)
    check_page(html)
    wording = load_prompt_set(prompts)
    if is_batch(image):
        samples = _read_batch(image, question, answers, answer_form, max_image_pixels)
    else:
        samples = [_read_image(image, _needed(question), answers, answer_form, max_image_pixels)]

    def load(spec: str, *, looks: bool) -> Model:
        return load_model(
            spec,
            device=device,
            dtype=dtype,
            family=family if looks else None,
            frame=frame if looks else None,
            max_pixels=max_pixels,
            timeout_s=timeout_s,
            transport=transport,
        )

    looker = load(perceiver_model, looks=True) if perceiver_model else None
    p2r = P2R(load(model, looks=looker is None), perceiver_model=looker, mode=mode, prompts=wording)
    if is_batch(image):
        settings = BatchSettings(
            model=model,
            perceiver_model=perceiver_model,
            mode=mode,
            prompts=prompts,
            prompt_fingerprint=wording.fingerprint,
            family=family,
            frame=frame,
            max_pixels=max_pixels,
            dtype=dtype,
        )
        folder = save or Path("runs") / image.resolve().stem
        images = save / IMAGES_FOLDER if save else None
        ask_batch(
            p2r, samples, folder, settings, images_folder=images, html=html, as_json=json, num_at_once=num_at_once
        )
    else:
        _ask_one(p2r, samples[0], save, html, as_json=json)


def _ask_one(p2r: P2R, sample: Sample, save: Path | None, html: Path | None, *, as_json: bool) -> None:
    trace = p2r.ask_sample(sample)
    if as_json:
        typer.echo(trace.model_dump_json())
    else:
        print_trace(make_console(), trace)
    if note := explain_frame([trace]):
        make_console(stderr=True).print(note, markup=False, soft_wrap=True)
    if save:
        paths = save_trace(save, trace, sample.image)
        make_console(stderr=True).print(f"saved {', '.join(map(str, paths))}", markup=False, soft_wrap=True)
    if html:
        write_asked_page(html, sample.image.uri, [trace], [sample], p2r)


def _read_image(
    path: Path, question: str, options: tuple[str, ...], answer_form: AnswerForm | None, max_image_pixels: int
) -> Sample:
    """Make a sample, and decode its image before a model is loaded, so that a wrong path costs no time."""
    image = FileImage(path, max_image_pixels=max_image_pixels).load()
    return make_sample(MemoryImage(image, name=str(path)), question, options=options, answer_form=answer_form)


def _read_batch(
    path: Path,
    question: str | None,
    options: tuple[str, ...],
    answer_form: AnswerForm | None,
    max_image_pixels: int,
) -> list[Sample]:
    if path.is_dir():
        return read_folder(path, _needed(question), options, answer_form, max_image_pixels)
    if question is not None or options or answer_form is not None:
        raise typer.BadParameter(f"{path} has its own questions, options and answer forms")
    return read_rows(path, max_image_pixels)


def _needed(question: str | None) -> str:
    if question is None:
        raise typer.BadParameter('the question is missing: p2r ask IMAGE "QUESTION"')
    return question


def split_options(listed: str | None, repeated: list[str] | None) -> tuple[str, ...]:
    """Join the options of --options and --option. Empty ones are kept: leaving them out would shift the letters."""
    return (*(part.strip() for part in (listed.split(",") if listed else ())), *(repeated or ()))
