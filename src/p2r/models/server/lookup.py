"""Read the address of a server, and ask it for its models."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from urllib.parse import urlsplit

import openai

from p2r.errors import ConfigError, EndpointError, count_nouns
from p2r.models.server.errors import RequestFacts, explain
from p2r.models.server.faults import NEEDS_TLS, needs_tls

LOOKUP_TIMEOUT_S = 10.0


def read_address(spec: str) -> tuple[str, str]:
    """Split "http://localhost:8000/v1#model" into the URL and the model's name, "" without one.

    A URL without a path means /v1 where the name is given.

    Raises:
        ConfigError: it is not a URL of a server.
    """
    url, _, name = spec.partition("#")
    url = url[:8].lower() + url[8:].rstrip("/")
    if re.fullmatch(r"https?://[^/\s]+(/\S*)?", url) is None or not _has_port(url):
        raise ConfigError(
            f"{url!r} is not the URL of a server", hint="a URL is written as http://localhost:8000/v1#model"
        )
    return (f"{url}/v1" if name and re.fullmatch(r"https?://[^/]+", url) else url), name


def _has_port(url: str) -> bool:
    """Tell whether the port of a URL can be one, where it names one."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def find_model(url: str, api_key: str, timeout_s: float = LOOKUP_TIMEOUT_S) -> tuple[str, str]:
    """Find the only model of a server.

    Args:
        url: with or without /v1 at its end; both are tried.

    Returns:
        The base URL of the API, and the model's name.

    Raises:
        EndpointError: the server does not answer, or does not have exactly one model.
    """
    base, names = list_models(url, api_key, timeout_s)
    if len(names) != 1:
        have = f"has {count_nouns(len(names), 'model')}: {', '.join(names[:20])}" if names else "lists no model"
        raise EndpointError(f"{url} {have}", hint="name the model after a #: URL#model")
    return base, names[0]


def list_models(url: str, api_key: str, timeout_s: float = LOOKUP_TIMEOUT_S) -> tuple[str, list[str]]:
    """Return the base URL of a server's API, and the names of its models.

    Raises:
        EndpointError: the server does not answer, or lists no models.
    """
    asked = RequestFacts(url, "", 0, 0, timeout_s, api_key)
    for candidate in [url] if url.endswith("/v1") else [f"{url}/v1", url]:
        with openai.OpenAI(base_url=candidate, api_key=api_key or "none", max_retries=0, timeout=timeout_s) as client:
            try:
                names = model_names(client.models.with_raw_response.list().http_response.text)
            except openai.NotFoundError:
                continue
            except openai.APIStatusError as error:
                explained = explain(error, asked)
                is_refused = error.status_code in (401, 403, 429)
                hint = explained.hint if is_refused else "name the model: URL#model"
                raise EndpointError(explained.message, hint=hint) from error
            except openai.APIError as error:
                if needs_tls(error, url):
                    raise EndpointError(f"{url} speaks TLS", hint=NEEDS_TLS) from error
                raise explain(error, asked) from error
        if names is not None:
            return candidate, names
    raise EndpointError(
        f"{url} lists no models, as an OpenAI-compatible server would",
        hint="check the URL (most end in /v1), or name the model: URL#model",
    )


def is_well(url: str, api_key: str, timeout_s: float = LOOKUP_TIMEOUT_S) -> bool | None:
    """Tell whether a server that has answered can still answer; None when it says nothing in time, and may be busy.

    Args:
        url: without the API's path. vLLM says 503 at /health when its engine is dead; any other page will do too.
    """
    with openai.OpenAI(base_url=url, api_key=api_key or "none", max_retries=0, timeout=timeout_s) as client:
        try:
            client.get("/health", cast_to=str)
        except openai.APITimeoutError:
            return None
        except openai.APIError as error:
            return isinstance(error, openai.APIStatusError) and error.status_code < 500
    return True


def find_root(url: str, name: str, api_key: str, timeout_s: float = LOOKUP_TIMEOUT_S) -> str:
    """Return what a server says that a model is, whatever its name: a folder or a hub id. vLLM says so.

    Of an adapter it names the model below (`parent`), which tells more than the adapter's own folder.

    "" where the server does not say, or does not answer: that is told when it is asked for a reply.
    """
    with (
        contextlib.suppress(openai.APIError, ValueError, TypeError, KeyError, AttributeError),
        openai.OpenAI(base_url=url, api_key=api_key or "none", max_retries=0, timeout=timeout_s) as client,
    ):
        body = client.models.with_raw_response.list().http_response.text
        entries = {str(entry["id"]): entry for entry in json.loads(body)["data"]}
        below = entries[name].get("parent")
        entry = entries.get(str(below), {"root": below}) if below else entries[name]
        return str(entry.get("root") or "")
    return ""


async def hint_models(client: openai.AsyncOpenAI) -> str:
    """Return a hint with a server's models; "" when it does not list them."""
    with contextlib.suppress(openai.APIError, asyncio.TimeoutError):
        listing = await asyncio.wait_for(client.models.with_raw_response.list(), LOOKUP_TIMEOUT_S)
        if names := model_names(listing.http_response.text):
            return f"it has {', '.join(names[:20])}"
    return ""


def model_names(body: str) -> list[str] | None:
    """Return the names in the response to GET /models; None when it is something else."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return [str(entry["id"]) for entry in json.loads(body)["data"]]
    return None
