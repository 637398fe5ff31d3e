"""schemathesis reads the server's own OpenAPI page, and asks whatever that allows and forbids."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2r.models.scripted import ScriptedModel
from tests.fakes import guest_tools
from tests.fakes.served import ANSWER, BOX, data_url, serve

pytestmark = pytest.mark.slow

HOOKS = f"""
import schemathesis

IMAGE = {{"type": "image_url", "image_url": {{"url": {data_url()!r}}}}}
QUESTION = {{"role": "user", "content": [IMAGE, {{"type": "text", "text": "What is it?"}}]}}

@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("messages"), list) and body["messages"]:
        return body | {{"messages": [*body["messages"], QUESTION]}}
    return body
"""
"""Ends chats with a question about an image: made-up ones hardly ever would."""


def test_whatever_is_asked_gets_what_the_openapi_page_says(tmp_path: Path) -> None:
    guest_tools.require_package("schemathesis", "schemathesis")
    (tmp_path / "hooks.py").write_text(HOOKS)
    model = ScriptedModel({"perceiver": lambda prompt: BOX if "bbox_2d" in prompt.text else "Yes", "reasoner": ANSWER})
    with serve(model) as served:
        call = ("-c", "from schemathesis.cli import schemathesis; schemathesis()", "run", f"{served.url}/openapi.json")
        bounds = ("--max-examples", "25", "--generation-deterministic")
        # What the page allows may still be refused, such as a chat that ends with the assistant.
        checks = ("--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--no-color")
        done = guest_tools.run_python(
            "schemathesis", *call, *bounds, *checks, cwd=tmp_path, SCHEMATHESIS_HOOKS="hooks.py"
        )
        counted = served.ask("/metrics").text
        assert served.application.line.num_inside == 0
    assert done.returncode == 0, done.stdout
    assert not re.search(r'p2r_requests_total{[^}]*status="5', counted)
    for path in ("/v1/chat/completions", "/v1/responses"):  # it came as far as answers
        assert f'p2r_requests_total{{path="{path}",status="200"}}' in counted
    assert len(re.findall(r"p2r_walks_total{.*} [1-9]", counted)) > 1, counted
