"""POST /v1/evidence: an image and the trace of an answer as one HTML file, the one that `p2r ask --html` writes.

Nothing was stored, so the client sends both again. What it sends may be forged: crops are cut where p2r itself would
cut them, and what the trace says is text.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial

from pydantic import ValidationError

from p2r.dialogue import Budget
from p2r.errors import explain_fault
from p2r.evidence import plan_crops
from p2r.images.load import read_image_size
from p2r.loop import run_apart
from p2r.report.asked.page import build_asked_report
from p2r.runs.asked import AskedPlace, AskedQuestions
from p2r.serving.exchange import Outlet
from p2r.serving.images import ImageReader
from p2r.serving.line import RequestLine
from p2r.serving.refusal import BAD_REQUEST, Refused
from p2r.serving.reply import JsonObject
from p2r.serving.request import check_length
from p2r.types import Frozen, Trace


class EvidenceRequest(Frozen):
    """The body of POST /v1/evidence. image: a data: URL, or one that may be fetched. trace: as a reply holds it."""

    image: str
    trace: Trace


@dataclass(frozen=True, slots=True)
class EvidenceRoute:
    """Writes pages. budget: of the model whose traces these are."""

    reader: ImageReader
    line: RequestLine
    budget: Budget

    async def answer(self, outlet: Outlet, body: JsonObject) -> None:
        """Answer one request. Raises Refused, or P2RError, when there is no page."""
        async with self.line.turn():
            page = await run_apart(partial(self._write, body))
        await outlet.send_json({"page": page})

    def _write(self, body: JsonObject) -> str:
        try:
            request = EvidenceRequest.model_validate(body)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            raise Refused(BAD_REQUEST, explain_fault(fault), param=place or None, code="invalid_value") from None
        check_length(len(request.trace.model_dump_json()), self.reader.limits)
        image = self.reader.read([request.image])[0]
        boxes = request.trace.perception.boxes if request.trace.perception else ()
        size = read_image_size(io.BytesIO(image.data), image.name)
        if request.trace.evidence != plan_crops(size, boxes):
            said = f"the trace is not about this image of {size[0]} x {size[1]} pixels"
            raise Refused(BAD_REQUEST, said, param="trace", code="invalid_value")
        trace = request.trace.model_copy(update={"sample_id": image.name, "image": image.name})
        place = AskedPlace(working_directory="", budget=self.budget)
        return build_asked_report([AskedQuestions(image.name, (trace,), place=place)], images={image.name: image})
