"""A chat server that sees charts and cards as a good model does, or with one defect."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageChops, ImageOps, ImageStat

from p2r.doctor.boxes import NUM_CHARTS
from p2r.doctor.charts import CARD_COLORS, draw_charts, turn_left
from p2r.doctor.examine import examine
from p2r.doctor.findings import Finding
from p2r.types import Box, Frame
from tests.fakes.endpoint_server import Answer, Call, ChatServer, refusal, serve

SIDE_BY_SIDE = range(5, 9)
"""A chart is asked about alone four times: once for its boxes, and three times for repeats. Then it is side by side."""


@dataclass(frozen=True)
class Behavior:
    """What the server does. The defaults are those of a healthy one.

    longest: the longest side that it leaves as it is, in pixels.
    shares_frame: the 2 tokens around an image stand around all of them.
    tokens: of each image, whatever its size.
    hedges: it writes a box per mille and in pixels.
    says_colors: the colors that it always names.
    gives_probabilities: in place of their logarithms.
    tiles: it cuts images into tiles of 512 pixels.
    """

    factor: int = 32
    least: int = 64
    most: int = 196
    longest: int | None = None
    refuses_below: int = 1
    rounds_up: bool = False
    tokens: int | None = None
    frame: Frame = "per_mille"
    formats: tuple[str, ...] = ("PNG", "BMP", "WEBP", "JPEG")
    most_images: int = 16
    shares_frame: bool = False
    merges: bool = False
    drops: bool = False
    reverses: bool = False
    turns_photos: bool = True
    counts: bool = True
    finds: bool = True
    swaps: bool = False
    hedges: bool = False
    names_colors: bool = True
    says_colors: str = ""
    thinks: bool = False
    is_random: bool = False
    is_random_together: bool = False
    is_upset_by_jpeg: bool = False
    num_logprobs: int | None = 20
    gives_probabilities: bool = False
    cached: int | None = 100
    context: int | None = 32768
    tiles: bool = False


class Model:
    """Replies to chats as its behavior says."""

    def __init__(self, behavior: Behavior) -> None:
        self.behavior = behavior
        self.number = itertools.count()
        self.times: Counter[str] = Counter()
        self.is_jpeg = self.is_together = False

    def answer(self, call: Call) -> Answer:
        does = self.behavior
        asked = json.dumps(call.body)
        self.times[asked] += 1
        self.is_together = does.is_random_together and self.times[asked] in SIDE_BY_SIDE
        content = call.body["messages"][-1]["content"]  # type: ignore[index]
        parts = [content] if isinstance(content, str) else content
        text = "".join(part if isinstance(part, str) else part.get("text", "") for part in parts)
        images: list[Image.Image] = []
        for part in parts:
            if not isinstance(part, str) and part["type"] == "image_url":
                data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
                image = Image.open(io.BytesIO(data))
                if image.format not in does.formats:
                    return refusal(400, "cannot identify image file")
                if min(image.size) < does.refuses_below:
                    return refusal(400, f"height and width must be larger than {does.refuses_below}")
                self.is_jpeg = image.format == "JPEG"
                images.append(ImageOps.exif_transpose(image) if does.turns_photos else image)
        if len(images) > does.most_images:
            return refusal(400, f"At most {does.most_images} image(s) may be provided in one prompt.")
        seen = self.see(images)
        num_prompt = 10 + len(text) // 4 + sum(self.count(image) for image in seen)
        if does.shares_frame and seen:
            num_prompt -= 2 * (len(seen) - 1)
        if (wanted := call.body.get("top_logprobs")) and does.num_logprobs is None:
            return refusal(400, "logprobs are not supported")
        likely = [2.0 ** -(place + 1) for place in range(min(int(wanted or 0), does.num_logprobs or 0))]  # type: ignore[call-overload]
        listed = [
            {"token": f"t{place}", "logprob": prob if does.gives_probabilities else math.log(prob)}
            for place, prob in enumerate(likely)
        ]
        choice = {
            "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": self.reply(text, seen)},
            "logprobs": {"content": [{"token": "t", "logprob": 0, "top_logprobs": listed}]} if wanted else None,
        }  # fmt: skip
        body: dict[str, object] = {"choices": [choice]}
        if does.counts:
            details = None if does.cached is None else {"cached_tokens": does.cached}
            body["usage"] = {"prompt_tokens": num_prompt, "completion_tokens": 3, "prompt_tokens_details": details}
        return Answer(body=json.dumps(body))

    def see(self, images: list[Image.Image]) -> list[Image.Image]:
        """The images that reach the model."""
        if self.behavior.drops:
            return images[:1]
        if not self.behavior.merges:
            return images
        seen: list[Image.Image] = []
        for image in images:
            if seen and seen[-1].size == image.size and not getattr(seen[-1], "is_merged", False):
                seen[-1] = seen[-1].copy()
                seen[-1].is_merged = True  # type: ignore[attr-defined]
            else:
                seen.append(image)
        return seen

    def count(self, image: Image.Image) -> int:
        """Its tokens, by the rule of Qwen-VL's processors and 2 around them; or otherwise."""
        width, height = image.size
        does = self.behavior
        if does.tokens is not None:
            return does.tokens
        if does.tiles:
            return 85 + 170 * math.ceil(width / 512) * math.ceil(height / 512)
        if does.longest is not None and max(width, height) > does.longest:
            width, height = (side * does.longest // max(image.size) for side in image.size)
        sides = height / does.factor, width / does.factor
        rows, columns = (max(1, math.floor(side + 0.5) if does.rounds_up else round(side)) for side in sides)
        area = width * height / does.factor**2
        if rows * columns > does.most:
            rows, columns = (math.floor(side * math.sqrt(does.most / area)) for side in sides)
        elif rows * columns < does.least:
            rows, columns = (math.ceil(side * math.sqrt(does.least / area)) for side in sides)
        return rows * columns + 2

    def reply(self, text: str, images: list[Image.Image]) -> str:
        """Its reply, after a thought that names things which it will not say."""
        thought = '<think>Is it blue, or [{"bbox_2d": [1, 2, 3, 4]}]?</think>' if self.behavior.thinks else ""
        return thought + self.say(text, images)

    def say(self, text: str, images: list[Image.Image]) -> str:
        does, number = self.behavior, next(self.number)
        if "Locate the key visual evidence" in text:
            if not does.finds:
                return "I see a drawing."
            box = find_thing(images[0])
            label = f"{box.label} {number}" if does.is_random or self.is_together else box.label
            if does.is_upset_by_jpeg and self.is_jpeg:
                label = "blurred"
            sizes = [images[0].size, (1000, 1000)] if does.hedges else [images[0].size]
            return json.dumps([{"bbox_2d": self.write(box, size), "label": label} for size in sizes])
        if "Name the colors" in text:
            names = [name_color(image) for image in images]
            if does.says_colors:
                return does.says_colors
            return ", ".join(reversed(names) if does.reverses else names) if does.names_colors else "colors"
        return "yes"

    def write(self, box: Box, size: tuple[int, int]) -> list[float]:
        """The corners in the frame."""
        width, height = {"per_mille": (1000, 1000), "unit": (1, 1), "pixels": size}[self.behavior.frame]
        digits = 3 if self.behavior.frame == "unit" else 0
        corners = (box.x1 * width, box.y1 * height, box.x2 * width, box.y2 * height)
        if self.behavior.swaps:
            corners = (corners[1], corners[0], corners[3], corners[2])
        return [round(corner / 1000, digits) for corner in corners]


@cache
def draw(side: int) -> list[tuple[Image.Image, Box]]:
    """The charts as they are, and turned to the left, with where the thing is."""
    charts = draw_charts(NUM_CHARTS, side)
    turned = [(each.image.transpose(Image.Transpose.ROTATE_90), turn_left(each.gold)) for each in charts]
    return [*((each.image, each.gold) for each in charts), *turned]


def find_thing(image: Image.Image) -> Box:
    """Where the thing is on a chart."""

    def differ(other: Image.Image) -> float:
        return sum(ImageStat.Stat(ImageChops.difference(image.convert("RGB"), other)).mean)

    return min(draw(image.width), key=lambda known: differ(known[0]))[1]


def name_color(image: Image.Image) -> str:
    mean = ImageStat.Stat(image.convert("RGB")).mean
    return min(CARD_COLORS, key=lambda name: sum(abs(a - b) for a, b in zip(CARD_COLORS[name], mean, strict=True)))


@contextmanager
def examined(behavior: Behavior | None = None, name: str = "m") -> Iterator[ChatServer]:
    """Run the server."""
    does = behavior or Behavior()
    about = {} if does.context is None else {"max_model_len": does.context}
    with serve(Model(does).answer, models=[name], about=about) as server:
        yield server


def check_nano(url: str, *, min_pixels: int, most_images: int) -> dict[str, Finding]:
    """Make sure that the doctor finds a real server of nano healthy, and measures it as it is; return what it found."""
    found = examine(url)
    assert found.is_fit, found.findings
    profile = found.profile
    assert (profile.family, profile.frame, profile.factor) == ("qwen3_vl", "per_mille", 32)
    assert (profile.min_pixels, profile.max_pixels) == (min_pixels, 65536)
    assert profile.most_images == most_images and "png" in profile.image_formats
    by_subject = {each.subject: each for each in found.findings}
    assert by_subject["images"].state == "good" and "several images" not in by_subject
    return by_subject
