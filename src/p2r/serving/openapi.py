"""The OpenAPI page: what FastAPI does not see itself, because requests are read and refused apart from it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from p2r.serving.evidence_page import EvidenceRequest
from p2r.serving.request import ChatRequest

JsonTree = dict[str, Any]
RESPONSE_REQUEST = "ResponseRequest"
_REF = "#/components/schemas/{model}"
_TEXT: JsonTree = {"type": "string"}
_ERROR: JsonTree = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _TEXT,
                "type": {"enum": ["invalid_request_error", "rate_limit_error", "server_error"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_NUMBER: JsonTree = {"type": ["number", "null"]}
_RESPONSE_REQUEST: JsonTree = {
    "type": "object",
    "required": ["model", "input"],
    "properties": {
        "model": _TEXT,
        "input": {"anyOf": [_TEXT, {"type": "array", "items": {"type": "object"}}]},
        "instructions": {"type": ["string", "null"]},
        "max_output_tokens": {"type": ["integer", "null"], "minimum": 1},
        "temperature": _NUMBER,
        "top_p": _NUMBER,
        "p2r": {"$ref": "#/components/schemas/LookOptions"},
    },
}
_ANSWERS: JsonTree = {
    "/metrics": {"text/plain": {"schema": _TEXT}},
    "/v1/chat/completions": {"application/json": {}, "text/event-stream": {}},
}
"""The replies of paths that send something else than JSON."""


def complete_openapi(app: FastAPI, names: tuple[str, ...]) -> None:
    """Put requests, errors, replies that are not JSON, and names of models into an application's OpenAPI page."""
    describe = app.openapi

    def describe_all() -> JsonTree:
        page = describe()
        parts = page.setdefault("components", {}).setdefault("schemas", {})
        _, read = models_json_schema([(ChatRequest, "validation"), (EvidenceRequest, "validation")], ref_template=_REF)
        parts |= {**read["$defs"], "Error": _ERROR, RESPONSE_REQUEST: _RESPONSE_REQUEST}
        for request in (ChatRequest.__name__, RESPONSE_REQUEST):
            parts[request]["properties"]["model"] = {"enum": list(names)}
        refused = {"description": "An error, as OpenAI writes it", "content": _refer("Error")}
        for path, operations in page["paths"].items():
            for operation in operations.values():
                replies = operation["responses"]
                replies.pop("422", None)  # FastAPI's own, which is never sent
                replies |= {"4XX": refused, "5XX": refused}
                if path in _ANSWERS:
                    replies["200"]["content"] = _ANSWERS[path]
        return page

    app.openapi = describe_all


def describe_body(name: str) -> JsonTree:
    """Describe an operation that takes the named request, which FastAPI does not read itself."""
    return {"requestBody": {"required": True, "content": _refer(name)}}


def _refer(name: str) -> JsonTree:
    return {"application/json": {"schema": {"$ref": _REF.format(model=name)}}}
