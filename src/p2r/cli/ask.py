"""`p2r ask`: one question about one image, or about many, or a file of questions; a batch can be resumed."""

from __future__ import annotations

import codecs
import glob
import gzip
import itertools
import shlex
import warnings
import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from p2r.api import P2R, AskMode, make_sample
from p2r.benchmarks.files.table_file import find_kind, find_stem, hold
from p2r.benchmarks.load import load_questions
from p2r.boxes.other_frame import explain_frame
from p2r.cli.asked_page import HtmlFile, check_page, find_place, write_asked_page
from p2r.cli.batch import ask_batch, interrupt, is_unread
from p2r.cli.guard import Misuse
from p2r.cli.inputs import STDIN, STDIN_NAME, describe_inputs, find_images, read_stdin
from p2r.cli.options import (
    DEFAULT_TIMEOUT_S,
    MODEL,
    BoxFrame,
    Device,
    Dtype,
    EngineArgs,
    Family,
    ImageChecking,
    ImageFolder,
    ImageTransport,
    MaxPixels,
    ModelSpec,
    PerceiverNewTokens,
    PerceiverProfile,
    PerceiverSpec,
    Profile,
    ReasonerNewTokens,
    TimeoutS,
    Wording,
    read_engine_args,
)
from p2r.cli.screen import make_console, print_trace
from p2r.errors import DataError, P2RWarning, excerpt, mask_secrets, reason_of
from p2r.files import check_folder
from p2r.images.find import is_url, limit_pixels
from p2r.images.formats import list_suffixes
from p2r.images.load import MAX_IMAGE_PIXELS, MemoryImage
from p2r.models.known import expand_name
from p2r.models.load import check_engine_args, check_profile, give_engine_args, load_model, load_roles
from p2r.prompts import load_prompt_set
from p2r.report.trace import save_trace
from p2r.runs.asked import IMAGES_FOLDER, BatchSettings, read_place, write_place
from p2r.types import AnswerForm, ImageSource, Sample

QUESTION, FILES = "The question", "Files"

EXAMPLES = """
**Examples**

- `p2r ask out/demo/image.png "What patterns are on the green triangle and the orange triangle?"` (`p2r
demo` writes this image; the small model knows its kind only)

- `p2r ask boat.jpg "What is on the sail?" --options "a star,a fish" --model p2r-4b --save out`

- `p2r ask boat.jpg "How many oars?" --answer-form number --model http://localhost:8000/v1#P2R-4B`

- `p2r ask a.jpg b.jpg "scans/*.png" https://example.org/c.jpg "Is there a person?" --options yes,no`

- `p2r ask photos/ "Is there a person?" --options yes,no --recursive --save runs/people` (every image in the folder)

- `p2r ask questions.jsonl` (of lines `{"image": "a.jpg", "question": "..."}`; also .json, .csv, .tsv, .parquet, .gz)

- `p2r ask - "What does the sign say?" < photo.jpg`
"""


def ask(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... QUESTION",
            help="Images (files, folders, patterns, URLs, or - for standard input), then what you want to know. "
            "Or a file of questions alone: .jsonl, .json, .csv, .tsv or .parquet.",
            show_default=False,
        ),
    ],
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
    profile: Profile = None,
    perceiver_profile: PerceiverProfile = None,
    family: Family = None,
    frame: BoxFrame = None,
    max_pixels: MaxPixels = None,
    perceiver_new_tokens: PerceiverNewTokens = None,
    reasoner_new_tokens: ReasonerNewTokens = None,
    max_image_pixels: Annotated[
        int,
        typer.Option(min=1, help="Refuse larger images, which may be decompression bombs.", rich_help_panel=FILES),
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
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Look into the folders of a folder.", rich_help_panel=FILES)
    ] = False,
    images: ImageFolder = None,
    num_at_once: Annotated[
        int, typer.Option(min=1, help="Ask at most this many questions at a time.", rich_help_panel=FILES)
    ] = 8,
    device: Device = None,
    dtype: Dtype = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    transport: ImageTransport = "auto",
    image_check: ImageChecking = "auto",
    engine_args: EngineArgs = None,
) -> None:
    """Ask a question about an image, and print the answer and where it was found."""
    answers = split_options(options, option)
    check_page(html)
    if save is not None:
        check_folder(save)
    for_engine = read_engine_args(engine_args)
    check_engine_args(for_engine, model, perceiver_model)
    wording = load_prompt_set(prompts)
    check_profile(profile, model)
    check_profile(perceiver_profile, perceiver_model, "perceiver_profile")
    is_asked = has_question(inputs)
    if is_asked:
        check_quotes(inputs)
    asked = Questions(inputs[-1] if is_asked else "", answers, answer_form, recursive, max_image_pixels, images)
    batch = asked.read_images(inputs[:-1]) if is_asked else asked.read_file(inputs)

    load = partial(
        load_model,
        device=device,
        dtype=dtype,
        max_pixels=max_pixels,
        timeout_s=timeout_s,
        transport=transport,
        image_check=image_check,
    )

    def make_p2r() -> P2R:
        answerer, looker = load_roles(
            model,
            perceiver_model or None,
            profile=profile,
            perceiver_profile=perceiver_profile,
            family=family,
            frame=frame,
            load=give_engine_args(load, for_engine),
        )
        return P2R(
            answerer,
            perceiver_model=looker,
            mode=mode,
            prompts=wording,
            perceiver_new_tokens=perceiver_new_tokens,
            reasoner_new_tokens=reasoner_new_tokens,
        )

    if isinstance(batch, Sample):
        _ask_one(make_p2r(), batch, save, html, as_json=json)
        return
    settings = BatchSettings(
        model=expand_name(model),
        perceiver_model=expand_name(perceiver_model) if perceiver_model else None,
        mode=mode,
        prompts=prompts,
        prompt_fingerprint=wording.fingerprint,
        profile=profile,
        perceiver_profile=perceiver_profile,
        family=family,
        frame=frame,
        max_pixels=max_pixels,
        perceiver_new_tokens=perceiver_new_tokens,
        reasoner_new_tokens=reasoner_new_tokens,
        dtype=dtype,
        engine_args=for_engine or None,
    )
    questions = describe_inputs(inputs, has_question=is_asked)
    folder = save or _choose_folder(batch.name, questions)
    saved_images = save / IMAGES_FOLDER if save else None
    try:
        p2r = make_p2r()
    except KeyboardInterrupt:
        raise interrupt(0, len(batch.samples), folder) from None
    ask_batch(
        p2r,
        batch.samples,
        folder,
        settings,
        asked=questions,
        images_folder=saved_images,
        html=html,
        as_json=json,
        num_at_once=num_at_once,
    )


def _choose_folder(name: str, asked: str) -> Path:
    """Return runs/NAME, or where that holds the answers to other questions runs/NAME-2, and so on."""
    for number in itertools.count(1):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        place = read_place(folder)
        if place is None or place.asked in ("", asked):
            return folder
    raise AssertionError


def _ask_one(p2r: P2R, sample: Sample, save: Path | None, html: Path | None, *, as_json: bool) -> None:
    trace = p2r.ask_sample(sample)
    errors = make_console(stderr=True)
    if as_json:
        typer.echo(trace.model_dump_json())
    else:
        print_trace(make_console(), trace)
    if is_unread(trace):
        errors.print("no answer can be read from the reply", markup=False)
    if note := explain_frame([trace]):
        warnings.warn(note, P2RWarning, 2)
    if save:
        paths = save_trace(save, trace, sample.image)
        batch = read_place(save)  # a batch may be in the same folder
        kept = {} if batch is None else {"asked": batch.asked, "stamps": batch.stamps}
        write_place(save, find_place(p2r).model_copy(update=kept))
        errors.print(f"saved {', '.join(map(str, paths))}", markup=False, soft_wrap=True)
    if html:
        write_asked_page(html, sample.image.uri, [trace], [sample], p2r)


class Batch(NamedTuple):
    """Many questions. name: the name of their folder below runs/."""

    name: str
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Questions:
    """The question of the command line, and how images are found for it."""

    question: str
    options: tuple[str, ...]
    answer_form: AnswerForm | None
    recursive: bool
    max_image_pixels: int
    images_folder: Path | None

    def read_file(self, names: list[str]) -> Batch:
        """Read a file of questions, or those that are piped in."""
        if len(names) != 1 or not (names == [STDIN] or is_question_file(names[0])):
            raise Misuse("the question is missing", hint='p2r ask IMAGE "QUESTION"')
        if self.options or self.answer_form is not None or self.recursive:
            raise Misuse(
                f"{names[0]} has its own questions, options, answer forms and images",
                hint="leave out `options`, `option`, `answer_form` and `recursive`, or write them into its rows",
            )
        if names == [STDIN]:
            return Batch(STDIN_NAME, self._load(hold_questions(read_stdin()), shown=STDIN_NAME))
        if is_url(names[0]):
            raise DataError(
                f"a file of questions is not read from the web: {mask_secrets(names[0])}",
                hint="download it, and ask the file",
            )
        path = Path(names[0])
        return Batch(find_stem(path.resolve()), self._load(path))

    def _load(self, path: Path, *, shown: str = "") -> list[Sample]:
        found = load_questions(path, images=self.images_folder or (Path() if shown else None), shown=shown)
        for remark in (*found.differences, *found.notes):
            make_console(stderr=True).print(f"{shown or path}: {remark}", markup=False, soft_wrap=True)
        return [replace(sample, image=limit_pixels(sample.image, self.max_image_pixels)) for sample in found]

    def read_images(self, names: list[str]) -> Sample | Batch:
        """Find the images, and decode a single one before a model is loaded: a wrong path costs no time."""
        if file := next(filter(is_question_file, names), None):
            raise Misuse(f"{file} has its own questions", hint=f"ask it alone: p2r ask {shlex.quote(file)}")
        if self.images_folder is not None:
            raise Misuse(
                f"`images` is {self.images_folder}: it is for a file of questions, which names its images",
                hint="leave it out, and give the images with their folder",
            )
        found = find_images(names, recursive=self.recursive, max_image_pixels=self.max_image_pixels)
        if line := found.left_out.describe():
            make_console(stderr=True).print(line, markup=False, soft_wrap=True)
        if found.is_batch:
            return Batch(found.run_name, [self._make(image, id) for id, image in found.images.items()])
        image = next(iter(found.images.values()))
        return self._make(MemoryImage(image.load(), name=image.uri), None)

    def _make(self, image: ImageSource, id: str | None) -> Sample:
        return make_sample(image, self.question, options=self.options, answer_form=self.answer_form, id=id)


def is_question_file(name: str) -> bool:
    """Tell from its name whether a file holds questions."""
    return bool(find_kind(Path(name)))


def hold_questions(data: bytes) -> Path:
    """Write questions that are piped in to a file whose name says how to read them: a table, JSON, parquet, packed."""
    try:
        plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{STDIN_NAME} cannot be unpacked: {reason_of(error)}", hint="copy or download it again"
        ) from error
    start = plain.lstrip(codecs.BOM_UTF8 + codecs.BOM_UTF16_LE + b"\0 \t\r\n")[:1]  # sets of bytes
    suffix = ".parquet" if plain.startswith(b"PAR1") else ".jsonl" if start in (b"{", b"[", b"") else ".csv"
    return hold(plain, f"{STDIN_NAME}{suffix}")


def has_question(inputs: list[str]) -> bool:
    """Tell whether the last argument is a question. It is not when it names a file, a folder or an address."""
    last = inputs[-1]
    return len(inputs) > 1 and not (last == STDIN or is_url(last) or _exists(last))


def check_quotes(inputs: list[str]) -> None:
    """Refuse a question without quotation marks, whose words would be asked about as if they were images.

    Raises:
        DataError: several arguments can only be words.
    """
    words = [name for name in inputs[:-1] if _is_word(name)]
    if len(words) + (len(inputs[-1].split()) == 1) < 2 or not words:
        return
    start = inputs.index(words[0])
    images, question = inputs[:start] or ["IMAGE"], " ".join(inputs[start:])
    raise DataError(
        f"{', '.join(words)}: no such file or folder",
        hint=f'if these are words of the question, quote it: p2r ask {shlex.join(images)} "{question}"',
    )


def _is_word(name: str) -> bool:
    """True for what names no image: there is no such file, and no suffix, slash or pattern that speaks for one."""
    if name == STDIN or is_url(name) or _exists(name) or is_question_file(name):
        return False
    return not set("/\\*[") & set(name) and Path(name).suffix.lower() not in list_suffixes() and not glob.glob(name)  # noqa: PTH207


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long to be a path, as a question may be
        return False


def split_options(listed: str | None, repeated: list[str] | None) -> tuple[str, ...]:
    """Join the options of --options and --option. Empty ones are kept: leaving them out would shift the letters."""
    if listed is not None and not listed.strip():
        raise Misuse(
            f"`options` is {excerpt(listed)}, which is empty",
            hint='write the answers to choose from, as "a,b,c", or leave it out',
        )
    return (*(part.strip() for part in (listed.split(",") if listed else ())), *(repeated or ()))
