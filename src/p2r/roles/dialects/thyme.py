"""Thyme-7B: a Python program that makes an image or computes, answered within the same reply.

Source: yfzhang114/Thyme at b9285b7 (Apache-2.0), `eval/VLMEvalKit/vlmeval/vlm/thyme`. The model is told the path and
the size of the file, and writes its boxes in pixels of the file. What a program prints, or the images whose paths it
prints, goes on the reply that the model has begun; what it assigned is there for the next program.

The authors run programs by `exec`. Ours are walked (`p2r.programs`): they cut, size, turn and enhance the image and
compute, and anything else is an error. It is told, where the authors drop the program and ask for the same again.

`as_released`, the first `<code>` counts wherever it stands, a program that fails or shows nothing is asked for again,
a chat without an answer is held again up to 5 times, and then the question is asked plainly; see also `run_programs`.
Decoding is greedy: the authors keep the likeliest token alone (top-k 1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from p2r.dialogue import Decoding
from p2r.errors import ToolError
from p2r.programs.process import ask_process
from p2r.prompts import PromptSet
from p2r.roles.dialects.base import QWEN_PROCESSOR_PIXELS, Dialect, Part, ToolCall, View
from p2r.roles.dialects.texts import fill, load_texts
from p2r.types import LETTERS, Box, Sample

PATH = "/mnt/data/image.png"
"""The name by which programs open the image, whatever its file is called."""
MAX_REPLIES, TRIES = 5, 5
_CODE = re.compile(r"<code>(.*?)</code>", re.IGNORECASE | re.DOTALL)
_LAST = re.compile(r".*(<code>.*</code>)", re.IGNORECASE | re.DOTALL)


def make_thyme(*, as_released: bool = False) -> Dialect:
    """Make the dialect; `as_released` with the slips of the authors' evaluation."""
    texts = load_texts("thyme")

    def ask(_: PromptSet, sample: Sample) -> str:
        options = "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, sample.options, strict=False))
        before = "<image>\n" if as_released else ""  # their text has it, beside the image itself
        if not options:
            return before + sample.question + texts["short"]
        stated = "" if sample.options_in_question else f"\nOptions:{options}"
        return f"{before}Question: {sample.question}{stated}\n{texts['choose']}"

    def tell(image_wh: tuple[int, int]) -> str:
        width, height = image_wh
        return f"{texts['path']}{PATH}{texts['size']}{width}x{height}{texts['form']}"

    def cut(call: ToolCall, views: Sequence[View]) -> Sequence[View]:
        return run_program(call, views[0], as_released=as_released)

    def respond(answers: Sequence[View | ToolError], number: int) -> Sequence[Part]:
        shown = [
            fill(texts["error"], error=answer.message) if isinstance(answer, ToolError) else answer.text or answer.seen
            for answer in answers
        ]
        return ("<sandbox_output>", *shown, "</sandbox_output>")

    return Dialect(
        "thyme",
        ask,
        read_first_code if as_released else read_last_code,
        cut,
        respond,
        tell=tell,
        continues=True,
        max_replies=MAX_REPLIES,
        stop=("</code>", "</answer>"),
        asks_again=lambda reply: as_released and "</answer>" not in reply,
        drops_errors=as_released,
        tries=TRIES if as_released else 1,
        ask_plainly=(lambda sample: f'{texts["plain"]}{sample.question}"\n') if as_released else None,
        decoding=Decoding(max_new_tokens=2048),
        budget_pixels=QWEN_PROCESSOR_PIXELS,
        texts=texts,
        as_released=as_released,
    )


def read_first_code(reply: str) -> list[ToolCall]:
    """Return the first program, from the first tag on, even if a thought names the tag."""
    found = _CODE.search(reply)
    if found is None:
        return []
    code = found[1].strip().removeprefix("```").lstrip()
    code = code[6:] if code[:6].lower() == "python" else code
    return [ToolCall("code", code.strip().removesuffix("```").strip())]


def read_last_code(reply: str) -> list[ToolCall]:
    """Return the program that the reply ends with: from the last tag before its end."""
    found = _LAST.match(reply)
    return [] if found is None else read_first_code(found[1])


def run_program(call: ToolCall, whole: View, *, as_released: bool = False) -> list[View]:
    """Return what a program shows: images, or a text. Raises ToolError."""
    programs = [str(each.arguments) for each in (*call.earlier, call)]
    try:
        shown = ask_process(programs, whole.image, PATH, as_released=as_released)
    except ToolError as error:
        raise ToolError(_make_plain(error.message)) from error
    return [
        View(whole.image, None, text=_make_plain(made))
        if isinstance(made, str)
        else View(made.image, None if made.region is None else _to_box(made.region))
        for made in shown
    ]


def _make_plain(text: str) -> str:
    """Return a text of a program without what would be a special token of the model, or no character at all."""
    return text.encode("utf-8", "replace").decode().replace("<|", "< |")


def _to_box(region: tuple[float, float, float, float]) -> Box:
    left, top, right, bottom = region
    return Box(x1=1000 * left, y1=1000 * top, x2=1000 * right, y2=1000 * bottom)
