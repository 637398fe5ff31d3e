"""Examine a server: make all checks, and put what was found into a profile."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import cast

import openai

from p2r.doctor.boxes import check_boxes, check_exif, check_jpeg
from p2r.doctor.findings import Examination, Finding, Measurements
from p2r.doctor.habits import (
    check_cache,
    check_context,
    check_logprobs,
    check_repeats,
    check_settings,
    check_text,
)
from p2r.doctor.images import check_formats, check_order, check_several, check_sizes
from p2r.doctor.patient import Patient, ServerLost
from p2r.errors import EndpointError, mask_secrets
from p2r.loop import run_blocking
from p2r.models.server.lookup import LOOKUP_TIMEOUT_S, find_model, read_address
from p2r.models.server.measured import MeasuredProfile

Check = Callable[[Patient, Measurements], Awaitable[list[Finding]]]
"""A check returns findings and adds to the facts. What cannot be found out is "unknown", never "good"."""

CHECKS: Sequence[tuple[str, Check]] = (
    ("replies", check_text),
    ("image formats", check_formats),
    ("image sizes", check_sizes),
    ("several images", check_several),
    ("boxes", check_boxes),
    ("order", check_order),
    ("repeats", check_repeats),
    ("EXIF", check_exif),
    ("JPEG", check_jpeg),
    ("log-probabilities", check_logprobs),
    ("prefix cache", check_cache),
    ("settings", check_settings),
    ("context", check_context),
)


def examine(
    spec: str,
    *,
    api_key: str | None = None,
    timeout_s: float = 300.0,
    on_check: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Examination:
    """Find out what a served model does with images, boxes and settings.

    Args:
        spec: the server and its model: "http://localhost:8000/v1#name"; without a name its only model.
        api_key: OPENAI_API_KEY when None.
        timeout_s: longest wait for a reply.
        on_check: told the name of the check that begins, how many are done, and how many there are.

    Raises:
        EndpointError: the server does not answer, or takes no images.
        ConfigError: it is not a URL.
    """
    key = os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key
    url, name = read_address(spec)
    if not name:
        url, name = find_model(url, key, min(timeout_s, LOOKUP_TIMEOUT_S))
    return run_blocking(_examine(url, name, key, timeout_s, on_check))


async def _examine(
    url: str, name: str, api_key: str, timeout_s: float, on_check: Callable[[str, int, int], None]
) -> Examination:
    profile = MeasuredProfile(url=mask_secrets(url), model=name, date=datetime.now(timezone.utc).date().isoformat())
    facts, findings = Measurements(profile), list[Finding]()
    async with openai.AsyncOpenAI(base_url=url, api_key=api_key or "none", max_retries=0, timeout=timeout_s) as client:
        entry = await _read_entry(client, name)
        patient = Patient(client, url, name, entry, api_key=api_key, timeout_s=timeout_s)
        for done, (subject, check) in enumerate(CHECKS):
            on_check(subject, done, len(CHECKS))
            try:
                findings += await check(patient, facts)
            except ServerLost as error:
                if not facts.profile.image_formats:
                    raise EndpointError(error.message, hint=error.hint) from error
                left = ", ".join(name for name, _ in CHECKS[done:])
                findings.append(Finding("server", "bad", f"It replies no more: {error.message}", error.hint))
                findings.append(Finding("not examined", "unknown", f"{left}."))
                break
            except EndpointError as error:
                if not facts.profile.image_formats:
                    raise
                findings.append(Finding(subject, "bad", error.message, error.hint))
        on_check("", len(CHECKS), len(CHECKS))
    return Examination(facts.profile, findings, patient.num_asked)


async def _read_entry(client: openai.AsyncOpenAI, name: str) -> Mapping[str, object]:
    """Return what the list of models says about one; {} where there is none."""
    try:
        listing = json.loads((await client.models.with_raw_response.list()).http_response.text)
        entries = cast("list[dict[str, object]]", listing["data"])
    except (openai.APIError, ValueError, KeyError, TypeError):
        return {}
    for entry in entries:
        if entry.get("id") == name:
            about = entry.get("meta")
            return {**entry, **(cast("dict[str, object]", about) if isinstance(about, dict) else {})}
    return {}
