"""VLM-R1 and Visual-RFT: how their checkpoints are asked for a box, and how it is read. `ModelPerceiver` uses it.

Sources: om-ai-lab/VLM-R1 at 90052f4 (Apache-2.0), `src/eval/test_rec_r1.py` (VLM-R1) and `test_od_r1.py` (its second
script, "vlm-r1-od"); Liuziyu77/Visual-RFT at 9486633 (Apache-2.0), `lisa_evaluation/Qwen2_VL_lisa_infere.py`. Both ask
for one box, and the first one counts.

As released, the box is read as their scripts read it (see `p2r.boxes.peers`), and those of the second script are
pixels of the file, though the model saw it resized. Ours reads any form of box, as of every perceiver, in the first
answer tag behind the thought, or else in the reply, and in the size that the model saw.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from p2r.boxes import RELEASE, ROBUST, parse_boxes
from p2r.boxes.peers import read_visual_rft, read_vlm_r1, read_vlm_r1_od
from p2r.boxes.values import Corners
from p2r.boxes.wrapping import after_thinking
from p2r.dialogue import Decoding
from p2r.prompts import question_text
from p2r.roles.dialects.base import QWEN_PROCESSOR_PIXELS
from p2r.roles.dialects.texts import Texts, load_texts
from p2r.types import Box, BoxParse, Frame, Sample

ImageWh = tuple[int, int]
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class BoxDialect:
    """The protocol of a checkpoint that is asked where something is.

    ask: the question, worded with `texts`.
    frame: of the boxes, unless somebody stated another.
    decoding: how the reply is drawn.
    read_released: the authors' reader; None for ours.
    budget_pixels: least and most pixels that the processor takes in the authors' evaluation.
    """

    name: str
    ask: Callable[[Texts, str], str]
    texts: Texts
    frame: Frame
    decoding: Decoding
    read_released: Callable[[str], Corners | None] | None = None
    budget_pixels: tuple[int, int] = QWEN_PROCESSOR_PIXELS

    @property
    def fingerprint(self) -> str:
        """The part of a role's fingerprint that tells dialects and their words apart."""
        return f"boxes:{self.name} {self.read_released is not None} {self.texts.fingerprint}"

    def word(self, sample: Sample) -> str:
        """Ask where to look."""
        return self.ask(self.texts, question_text(sample))

    def read(self, reply: str, frame: Frame, seen_wh: ImageWh, file_wh: ImageWh) -> tuple[tuple[Box, ...], BoxParse]:
        """Read the first box of a reply, per mille of the image, and how it was read.

        Args:
            seen_wh, file_wh: (width, height) in pixels of the image as the model saw it, and of the file.
        """
        image_wh = file_wh if frame == "file_pixels" else seen_wh
        if self.read_released is None:
            tag = _TAGGED.search(after_thinking(reply))
            boxes, parse = parse_boxes(tag[1] if tag else reply, rules=ROBUST, frame=frame, image_wh=image_wh)
            return boxes[:1], parse
        corners = self.read_released(reply)
        if corners is None:
            return (), BoxParse(step="none", reason="the authors' script finds no box in the reply")
        return parse_boxes(json.dumps([{"bbox_2d": corners}]), rules=RELEASE, frame=frame, image_wh=image_wh)


def make_vlm_r1(
    name: str = "vlm-r1",
    read_released: Callable[[str], Corners | None] | None = None,
    frame: Frame = "pixels",
) -> BoxDialect:
    """Make VLM-R1's dialect; with a reader as released."""

    def ask(texts: Texts, question: str) -> str:
        return texts["template"].replace("{Question}", texts["question"].replace("{question}", question))

    return BoxDialect(name, ask, load_texts("vlm-r1"), frame, Decoding(max_new_tokens=256), read_released)


def make_visual_rft(read_released: Callable[[str], Corners | None] | None = None) -> BoxDialect:
    """Make Visual-RFT's dialect; with a reader as released."""

    def ask(texts: Texts, question: str) -> str:
        return f"{texts['before']}{question}{texts['after']}"

    return BoxDialect(
        "visual-rft", ask, load_texts("visual-rft"), "per_mille", Decoding(max_new_tokens=128), read_released
    )


BOX_DIALECTS: Mapping[str, Callable[[], BoxDialect]] = {
    "vlm-r1": make_vlm_r1,
    "vlm-r1:released": partial(make_vlm_r1, read_released=read_vlm_r1),
    "vlm-r1-od:released": partial(make_vlm_r1, "vlm-r1-od", read_vlm_r1_od, "file_pixels"),
    "visual-rft": make_visual_rft,
    "visual-rft:released": partial(make_visual_rft, read_visual_rft),
}
"""The dialect of each mode, by what follows "p2r:" in its name."""
