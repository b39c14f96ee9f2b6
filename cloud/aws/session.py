"""Clients with sane timeouts and retries, and the one place where botocore's errors become ours.

It decides nothing about local or real AWS: boto3 reads ``AWS_ENDPOINT_URL`` and the credentials itself.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError as BotoConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from cloud.errors import ConflictError, DeniedError, EdgewrightError, InvalidInputError, NotFoundError, UnavailableError

NOT_FOUND_CODES = frozenset(
    {"404", "NoSuchKey", "NoSuchBucket", "NotFound", "NotFoundException", "ResourceNotFoundException",
     "ResourceNotFound", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NoSuchEntity",
     "StateMachineDoesNotExist", "StateMachineDeleting", "ExecutionDoesNotExist"}
)  # fmt: skip
SETUP_CODES = frozenset({"NoSuchBucket", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})
CONFLICT_CODES = frozenset(
    {"ConflictException", "EntityAlreadyExists", "ResourceAlreadyExistsException", "ResourceInUse",
     "ResourceInUseException", "AlreadyExistsException", "PreconditionFailed", "BucketAlreadyExists",
     "BucketAlreadyOwnedByYou", "StateMachineAlreadyExists"}
)  # fmt: skip
INVALID_CODES = frozenset(
    {"ValidationException", "InvalidRequestException", "InvalidParameterException", "InvalidParameterValue",
     "InvalidBucketName", "MalformedPolicyDocument", "SqlParseException", "InvalidDefinition",
     "DisabledException", "KMSInvalidStateException", "InvalidArnException", "InvalidKeyUsageException",
     "InvalidAliasNameException", "UnsupportedOperationException"}
)  # fmt: skip
DENIED_CODES = frozenset(
    {"AccessDenied", "AccessDeniedException", "403", "ExpiredToken", "ExpiredTokenException",
     "InvalidClientTokenId", "InvalidAccessKeyId", "UnrecognizedClientException", "SignatureDoesNotMatch",
     "UnauthorizedException", "UnauthorizedOperation", "AuthFailure", "MissingAuthenticationToken",
     "MissingAuthenticationTokenException", "InvalidSignatureException", "RequestTimeTooSkewed", "RequestExpired"}
)  # fmt: skip
THROTTLED_CODES = frozenset(
    {"ThrottlingException", "Throttling", "ThrottledException", "TooManyRequestsException", "SlowDown", "RequestTimeout",
     "RequestThrottled", "RequestThrottledException", "RequestLimitExceeded", "BandwidthLimitExceeded",
     "ProvisionedThroughputExceededException", "PriorRequestNotComplete", "TransactionInProgressException",
     "ConditionalRequestConflict", "OperationAborted", "ConcurrentModification", "ConcurrentModificationException",
     "ConflictingResourceUpdateException", "RequestAlreadyInProgressException", "QueueDeletedRecently",
     "AWS.SimpleQueueService.QueueDeletedRecently"}
)  # fmt: skip
"""botocore has tried these again itself, where it knows them. From ConditionalRequestConflict on: two writers at once, or a
queue's name that is free again a minute later."""

UNAVAILABLE_STATUSES = frozenset({429, 500, 502, 503, 504})
"""Not 501: a service that does not know an operation will not know it the next time either."""

CLOCK_APART_S = 60.0
"""A third of what makes a device silent (fleet/health.py)."""

FALLBACK_REGION = "us-east-1"
DENIED_REMEDY = "Check the credentials, what their role may do, and this machine's clock."
SETUP_REMEDY = "Run `edgewright setup`, or check the name in the EDGEWRIGHT_* variables."
AGAIN_REMEDY = "Run the same command again; it goes on where it stopped."


class AwsSession:
    """Makes one client per service and keeps it. Thread-safe for the clients it returns, as boto3's clients are."""

    def __init__(self, region: str) -> None:
        """Nothing is contacted until a client is used; an empty ``region`` is the one of AWS's own configuration.

        Raises:
            InvalidInputError: AWS_PROFILE names none that is configured.
        """
        with translated("reading AWS's configuration"):
            self._session = boto3.session.Session(region_name=region or None)
        self.region: str = self._session.region_name or FALLBACK_REGION
        self._clients: dict[tuple[str, str], Any] = {}
        self._account = ""
        self._ahead_s = 0.0
        self._config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})

    def account(self) -> str:
        """The account that these credentials are of; AWS is asked once."""
        if not self._account:
            with translated("asking AWS which account this is"):
                self._account = str(self.client("sts").get_caller_identity()["Account"])
        return self._account

    def clock_trouble(self) -> str:
        """What an operator should know of this machine's clock, by AWS's latest answer; empty if nothing."""
        if abs(self._ahead_s) < CLOCK_APART_S:
            return ""
        where = "ahead of" if self._ahead_s > 0 else "behind"
        return f"this machine's clock is {abs(self._ahead_s):.0f} s {where} AWS's: devices may look silent that are not"

    def client(self, service: str, region: str = "") -> Any:  # noqa: ANN401 - boto3 builds client classes at run time
        """The client of a service, by boto3's name for it; ``region`` is another than the session's.

        Raises:
            InvalidInputError: AWS_ENDPOINT_URL or the region is none.
        """
        key = service, region or self.region
        if key not in self._clients:
            try:
                with translated(f"making a client of {service}"):
                    made = self._session.client(service, region_name=key[1], config=self._config)
                made.meta.events.register("after-call", self._note_clock)
                self._clients[key] = made
            except ValueError as error:
                raise InvalidInputError(f"AWS's configuration: {error}", "Check AWS_ENDPOINT_URL.") from error
        return self._clients[key]

    def _note_clock(self, http_response: Any = None, **_: object) -> None:  # noqa: ANN401 - botocore's
        """What botocore corrects its signatures by, so that nothing else would ever be heard of it."""
        said = http_response.headers.get("date") if http_response is not None else None
        if said:
            with suppress(ValueError, TypeError):
                self._ahead_s = time.time() - parsedate_to_datetime(said).timestamp()


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn botocore's errors into ours; ``what`` says what was being done, such as ``"uploading the bundle"``.

    Raises:
        NotFoundError, ConflictError, InvalidInputError, DeniedError, UnavailableError, EdgewrightError: by the service's
            error code.
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
    except (CredentialRetrievalError, TokenRetrievalError, SSOError) as error:
        raise UnavailableError(f"{what}: {error}", "Sign in again, for example with `aws sso login`.") from error
    except (ProfileNotFound, PartialCredentialsError, InvalidRegionError) as error:
        raise InvalidInputError(f"{what}: {error}", "Check AWS_PROFILE and what ~/.aws/config says.") from error
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
        return InvalidInputError(sentence, "Correct what AWS names here.")
    if code in DENIED_CODES:
        return DeniedError(sentence, DENIED_REMEDY)
    if code in THROTTLED_CODES or _http_status(error) in UNAVAILABLE_STATUSES:
        return UnavailableError(sentence, AGAIN_REMEDY)
    return EdgewrightError(sentence)


def _from_transfer(what: str, error: Boto3Error) -> EdgewrightError:
    """boto3's transfers hide the service's own answer in an error that is none of botocore's."""
    hidden = error.__context__
    return _from_code(what, hidden) if isinstance(hidden, ClientError) else _unanswered(what, error)


def _unanswered(what: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"{what}: no answer from AWS ({type(error).__name__}: {error})",
        "Check the region, AWS_ENDPOINT_URL and the network, then run the same command again; it goes on where it stopped.",
    )


def _http_status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
