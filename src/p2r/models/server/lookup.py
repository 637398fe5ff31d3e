"""Ask a server for its models."""

from __future__ import annotations

import contextlib
import json

import openai

from p2r.errors import EndpointError, count_nouns
from p2r.models.server.errors import RequestFacts, explain
from p2r.models.server.faults import NEEDS_TLS, needs_tls

LOOKUP_TIMEOUT_S = 10.0


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
                raise EndpointError(explain(error, asked).message, hint="name the model: URL#model") from error
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


def model_names(body: str) -> list[str] | None:
    """Return the names in the response to GET /models; None when it is something else."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return [str(entry["id"]) for entry in json.loads(body)["data"]]
    return None
