"""The tools: where to look, an answer with its evidence, and a part of an image at full resolution.

They keep a server's limits, and say what is wrong in one sentence, without paths but the agent's own, and with what an
argument must be.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2r.agents.arguments import AskArguments, CropArguments, LookArguments
from p2r.agents.shown import ShownImage, show_images
from p2r.api import make_sample
from p2r.errors import P2RError, excerpt
from p2r.images.budget import cut
from p2r.images.contents import is_base64_image
from p2r.images.find import DATA, FILE, EncodedImage, exists, find_file, is_url
from p2r.images.web import WEB
from p2r.loop import run_apart
from p2r.modes import make_roles
from p2r.pipeline import walk
from p2r.serving.answering import ServedModel, WalkedAnswer, refuse_failure
from p2r.serving.chat import Chat, ModelInChat
from p2r.serving.images import ABSENT, ImageReader
from p2r.serving.refusal import BAD_REQUEST, UNAVAILABLE, Refused, hide_places, refuse_error
from p2r.serving.reply import JsonObject, describe_walk
from p2r.serving.request import check_length
from p2r.types import Trace

Rect = tuple[int, int, int, int]
_ALONE = Chat("", (("user", ()),))
"""A chat in which nothing else was said."""
_LOOK_FIELDS = ("state", "image_wh", "boxes")


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool's findings: fields to be written as JSON, and images."""

    fields: JsonObject
    images: tuple[ShownImage, ...]


@dataclass
class AgentTools:
    """The tools.

    load: loads the model. It is called once, in a thread.
    shown_pixels: the most pixels of an image in a result, about; larger ones are sized down.
    folder: what agents are told of the folder of images.
    """

    load: Callable[[], ServedModel]
    reader: ImageReader
    shown_pixels: int
    folder: str = "the server's image folder"
    _loading: asyncio.Future[ServedModel] | None = field(default=None, init=False, repr=False)

    @property
    def image_rule(self) -> str:
        """Words for agents that say which images this server takes."""
        access = self.reader.access
        folder = [f"the path of a file below {self.folder} (absolute, or relative to it)"] * bool(access.image_folders)
        web = [f"a web address of {' or '.join(access.image_hosts)}"] * bool(access.image_hosts)
        return ", or ".join([*folder, *web, "a data: URL"])

    def begin_loading(self) -> asyncio.Future[ServedModel]:
        """Load the model beside everything else, unless that has begun."""
        if self._loading is None:
            self._loading = asyncio.ensure_future(run_apart(self.load))
            self._loading.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # it counts as seen
        return self._loading

    async def look(self, arguments: LookArguments) -> ToolResult:
        """Say where the evidence for a question is. Raises Refused."""
        image = await self._read(arguments.image)
        trace = await self._walk(image, arguments.question, (), answers=False)
        return await self._show(image, trace, {})

    async def ask(self, arguments: AskArguments) -> ToolResult:
        """Look, and answer from what was seen. Raises Refused."""
        image = await self._read(arguments.image)
        trace = await self._walk(image, arguments.question, arguments.options, answers=True)
        assert trace.answer is not None and trace.reasoning is not None, "a walk that has not failed has both"
        answer = None if trace.answer.is_missing else str(trace.answer)
        return await self._show(image, trace, {"answer": answer, "reply": trace.reasoning.text})

    async def crop(self, arguments: CropArguments) -> ToolResult:
        """Cut a part out of an image. Raises Refused."""
        image = await self._read(arguments.image)

        def find(size: tuple[int, int]) -> list[Rect]:
            return [find_rect(arguments, size)]

        return await run_apart(lambda: self._cut_out(image, find, {}))

    async def _read(self, place: str) -> EncodedImage:
        """Return an image that is not yet decoded."""
        try:
            (image,) = await run_apart(lambda: self.reader.read([self._find_url(place)], "image"))
        except P2RError as error:
            if error.message.endswith(ABSENT):
                raise self._refuse_place(place, f", which {ABSENT}") from error
            raise refuse_argument(error) from error
        return image

    def _find_url(self, place: str) -> str:
        """Return the URL of an image that an agent names. Raises Refused for a kind that this server does not read."""
        access, kind = self.reader.access, place[:8].lower()
        is_web, is_file = kind.startswith(WEB), kind.startswith(FILE) or not is_url(place)
        if kind.startswith(DATA) or (is_web and access.image_hosts):
            return place
        if is_base64_image(place):
            return f"data:;base64,{place}"
        if is_web or not is_file or not access.image_folders:
            raise self._refuse_place(place)
        return place if is_url(place) else self._find_file(place).as_uri()

    def _refuse_place(self, place: str, why: str = "") -> Refused:
        return Refused(BAD_REQUEST, f"image is {excerpt(place)}{why}: it must be {self.image_rule}")

    def _find_file(self, place: str) -> Path:
        """Return the path of a file that an agent names, which may be none: the first that is there."""
        if place.startswith("~/"):
            place = str(Path(place).expanduser())
        found = [find_file(folder.resolve(), place) for folder in self.reader.access.image_folders]
        return next((path for path in found if exists(path)), found[0])

    async def _walk(self, image: EncodedImage, question: str, options: Sequence[str], *, answers: bool) -> Trace:
        check_length(len(question) + sum(map(len, options)), self.reader.limits)
        try:
            sample = make_sample(image, question, options=options)
        except P2RError as error:
            raise refuse_argument(error) from error
        served = await self._wait_for_model()
        model = ModelInChat(served.model, _ALONE)
        looker = model if served.looker is None else ModelInChat(served.looker, _ALONE)
        roles = make_roles("p2r", model, served.prompts, perceiver_model=looker)
        trace = await walk(sample, roles.perceiver, roles.reasoner if answers else None)
        refuse_failure(trace, looker.failures, model.failures)
        return trace

    async def _wait_for_model(self) -> ServedModel:
        try:
            return await asyncio.shield(self.begin_loading())
        except P2RError as error:
            said = f"the model cannot be loaded: {hide_places(error.message)}"
            raise Refused(UNAVAILABLE, said) from error

    async def _show(self, image: EncodedImage, trace: Trace, said: JsonObject) -> ToolResult:
        """Return what came of a walk, with its crops."""
        assert trace.evidence is not None, "a walk that has not failed has gathered evidence"
        rects = list(trace.evidence.crops)
        whole = describe_walk(WalkedAnswer(trace, "p2r", 0, ()))
        fields = said | {name: whole[name] for name in _LOOK_FIELDS}
        return await run_apart(lambda: self._cut_out(image, lambda _: rects, fields))

    def _cut_out(
        self, source: EncodedImage, find: Callable[[tuple[int, int]], list[Rect]], fields: JsonObject
    ) -> ToolResult:
        """Cut the rectangles that `find` finds in an image of a size out of it. Blocks: call it in a thread."""
        try:
            image = source.load()
        except P2RError as error:
            raise refuse_argument(error) from error
        rects = find(image.size)
        shown = show_images([cut(image, rect) for rect in rects], self.shown_pixels)
        crops: list[JsonObject] = [
            {"pixels": list(rect), "shown_wh": list(crop.wh)} for rect, crop in zip(rects, shown, strict=True)
        ]
        return ToolResult(fields | {"image_wh": list(image.size), "crops": crops}, tuple(shown))


def refuse_argument(error: P2RError) -> Refused:
    """Return what an agent is told about an error in what it gave: what is wrong, and what helps."""
    refused = refuse_error(error)
    said = refused.message.replace(" of sample 'image'", "").replace("sample 'image'", "the question")
    refused.message = f"{said}; {error.hint}" if error.hint and refused.status == BAD_REQUEST else said
    return refused


def find_rect(arguments: CropArguments, image_wh: tuple[int, int]) -> Rect:
    """Return the whole pixels that a box touches, inside the image. Raises Refused when there are none."""
    left, top, right, bottom = arguments.box
    if not (left < right and top < bottom):
        raise Refused(
            BAD_REQUEST, f"box is {arguments.box}: it must be [left, top, right, bottom], left < right, top < bottom"
        )
    width, height = image_wh
    x, y = (width / 1000, height / 1000) if arguments.unit == "per_mille" else (1.0, 1.0)
    found = (
        max(0, math.floor(left * x)),
        max(0, math.floor(top * y)),
        min(width, math.ceil(right * x)),
        min(height, math.ceil(bottom * y)),
    )
    if not (found[0] < found[2] and found[1] < found[3]):
        raise Refused(BAD_REQUEST, f"box is {arguments.box}: it is outside of the image, of {width} x {height} pixels")
    return found
