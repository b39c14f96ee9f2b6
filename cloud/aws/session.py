"""Clients with sane timeouts and retries, and the one place where botocore's errors become ours.

It decides nothing about local or real AWS: boto3 reads ``AWS_ENDPOINT_URL`` and the credentials itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError as BotoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
)

from cloud.errors import ConflictError, EdgewrightError, InvalidInputError, NotFoundError, UnavailableError

NOT_FOUND_CODES = frozenset(
    {"404", "NoSuchKey", "NoSuchBucket", "NotFound", "NotFoundException", "ResourceNotFoundException",
     "ResourceNotFound", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"}
)  # fmt: skip
SETUP_CODES = frozenset({"NoSuchBucket", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})
CONFLICT_CODES = frozenset(
    {"ConflictException", "EntityAlreadyExists", "ResourceAlreadyExistsException", "ResourceInUse",
     "ResourceInUseException", "AlreadyExistsException", "PreconditionFailed", "ConditionalRequestConflict"}
)  # fmt: skip
INVALID_CODES = frozenset(
    {"ValidationException", "InvalidRequestException", "InvalidParameterException",
     "DisabledException", "KMSInvalidStateException"}
)  # fmt: skip
DENIED_CODES = frozenset(
    {"AccessDenied", "AccessDeniedException", "403", "ExpiredToken", "ExpiredTokenException",
     "InvalidClientTokenId", "InvalidAccessKeyId", "UnrecognizedClientException", "SignatureDoesNotMatch"}
)  # fmt: skip
THROTTLED_CODES = frozenset(
    {"ThrottlingException", "Throttling", "TooManyRequestsException", "SlowDown", "RequestTimeout"}
)
UNAVAILABLE_STATUSES = frozenset({500, 502, 503, 504})
"""Not 501: a service that does not know an operation will not know it the next time either."""

SETUP_REMEDY = "Run `edgewright setup`, or check the name in the EDGEWRIGHT_* variables."
AGAIN_REMEDY = "Run the same command again; it goes on where it stopped."


class AwsSession:
    """Makes one client per service and keeps it. Thread-safe for the clients it returns, as boto3's clients are."""

    def __init__(self, region: str) -> None:
        """Nothing is contacted until a client is used."""
        self._session = boto3.session.Session(region_name=region)
        self._clients: dict[str, Any] = {}
        self._config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 builds client classes at run time
        """The client of a service, by boto3's name for it."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service, config=self._config)
        return self._clients[service]


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn botocore's errors into ours; ``what`` says what was being done, such as ``"uploading the bundle"``.

    Raises:
        NotFoundError, ConflictError, InvalidInputError, UnavailableError, EdgewrightError: by the service's error code.
    """
    try:
        yield
    except ClientError as error:
        raise _from_code(what, error) from error
    except Boto3Error as error:
        raise _from_transfer(what, error) from error
    except (BotoConnectionError, HTTPClientError, IncompleteReadError) as error:
        raise _unanswered(what, error) from error
    except NoCredentialsError as error:
        raise UnavailableError(f"{what}: no AWS credentials", "Set AWS_PROFILE or AWS_ACCESS_KEY_ID.") from error
    except ParamValidationError as error:
        raise InvalidInputError(f"{what}: {error}", "Correct the named field.") from error
    except BotoCoreError as error:
        raise EdgewrightError(f"{what}: {error}") from error


def error_code(error: ClientError) -> str:
    """The service's own code, such as ``ConflictException``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _from_code(what: str, error: ClientError) -> EdgewrightError:
    code = error_code(error)
    text = str(error.response.get("Error", {}).get("Message") or error)
    sentence = f"{what}: {text} ({code})"
    if code in NOT_FOUND_CODES:
        return NotFoundError(sentence, SETUP_REMEDY if code in SETUP_CODES else "")
    if code in CONFLICT_CODES:
        return ConflictError(sentence)
    if code in INVALID_CODES:
        return InvalidInputError(sentence)
    if code in DENIED_CODES:
        return EdgewrightError(sentence, "Check the credentials, and what their role may do.")
    if code in THROTTLED_CODES or _http_status(error) in UNAVAILABLE_STATUSES:
        return UnavailableError(sentence, AGAIN_REMEDY)
    return EdgewrightError(sentence)


def _from_transfer(what: str, error: Boto3Error) -> EdgewrightError:
    """boto3's transfers hide the service's own answer in an error that is none of botocore's."""
    hidden = error.__context__
    return _from_code(what, hidden) if isinstance(hidden, ClientError) else _unanswered(what, error)


def _unanswered(what: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"{what}: no answer from AWS ({type(error).__name__})",
        "Check AWS_ENDPOINT_URL and the network, then run the same command again; it goes on where it stopped.",
    )


def _http_status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
