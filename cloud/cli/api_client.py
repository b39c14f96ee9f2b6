"""The fleet status API from the command line's side: where it is, the token, and its problem documents as our errors.

The failure this exists for: a token sent in plain HTTP over a network, by a URL that lacks one letter. It goes over TLS, or
to this machine.
"""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from cloud.api.door_token import configured_token
from cloud.api.exposure import is_loopback_name
from cloud.errors import ConflictError, EdgewrightError, InvalidInputError, NotFoundError, UnavailableError
from cloud.settings import Settings

TIMEOUT_S = 10.0
KINDS: dict[int, type[EdgewrightError]] = {
    400: InvalidInputError,
    401: InvalidInputError,
    403: InvalidInputError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidInputError,
}


def api_client(settings: Settings) -> httpx.Client:
    """A client of the API that these settings name.

    Raises:
        InvalidInputError: the URL is none, the token would go over a network in plain HTTP, or a file cannot be used.
    """
    token = configured_token(settings)
    try:
        url = httpx.URL(settings.api_url)
    except httpx.InvalidURL as error:
        raise InvalidInputError(
            f"EDGEWRIGHT_API_URL is {settings.api_url!r}: {error}", "Write https://host:port."
        ) from error
    if token and url.scheme != "https" and not is_loopback_name(url.host):
        raise InvalidInputError(
            f"the token would go to {url.host} in plain HTTP, for everybody to read",
            "Let EDGEWRIGHT_API_URL be https://….",
        )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False, verify=_trusted(settings))


def fetched(client: httpx.Client, path: str, parameters: Mapping[str, str | int]) -> dict[str, Any]:
    """One answer of the API.

    Raises:
        InvalidInputError, NotFoundError, ConflictError, UnavailableError: by its problem document.
    """
    try:
        answer = client.get(path, params=parameters)
        document = _document(answer)
    except (httpx.HTTPError, ValueError) as error:
        raise UnavailableError(
            f"no usable answer from {client.base_url} ({type(error).__name__}: {error})",
            "Start it with edgewright serve, or set EDGEWRIGHT_API_URL (and EDGEWRIGHT_API_CA_FILE, if its certificate is "
            "your own).",
        ) from error
    if answer.is_success:
        return document
    detail = str(document.get("detail") or f"the API answered {answer.status_code}")
    raise KINDS.get(answer.status_code, UnavailableError)(detail, str(document.get("remedy") or ""))


def _document(answer: httpx.Response) -> dict[str, Any]:
    """Something else may listen there.

    Raises:
        ValueError: it is none of the API's answers.
    """
    document = answer.json()
    if not isinstance(document, dict) or (
        answer.is_success and not {"items", "thing_name", "file_bytes"} & document.keys()
    ):
        raise ValueError("this is not the fleet status API")
    return document


def _trusted(settings: Settings) -> ssl.SSLContext | bool:
    if not settings.api_ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=settings.api_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError(
            f"EDGEWRIGHT_API_CA_FILE: {settings.api_ca_file}: {error}", "Name a PEM file."
        ) from error
