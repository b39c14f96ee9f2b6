"""From an HTTP request to a service's operation and its parameters, and from a result or a refusal back to HTTP.

Everything follows botocore's service models, read through moto's routers, parsers and serialisers (moto 5.2.5, pinned:
these are its internals). It decides nothing about what is allowed (:mod:`simulator.aws.validation`) or real
(:mod:`simulator.aws.operations`). Stateless; safe from any thread.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

import botocore.session
from moto.core.model import OperationModel, ServiceModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from simulator.aws.cloud import REGION
from simulator.aws.errors import AwsError

_CREDENTIAL = re.compile(r"Credential=[^/,\s]+/\d{8}/(?P<region>[^/]+)/(?P<signing_name>[^/]+)/aws4_request")
_PRESIGNED = re.compile(r"[^/]+/\d{8}/(?P<region>[^/]+)/(?P<signing_name>[^/]+)/aws4_request")

_SERVICES_SIGNED_AS: Mapping[str, tuple[str, ...]] = {
    # where botocore's service has another name than the one it signs with, or several share one
    "dynamodb": ("dynamodb", "dynamodbstreams"),
    "greengrass": ("greengrassv2", "greengrass"),
    "iotdata": ("iot-data",),
    "monitoring": ("cloudwatch",),
    "s3": ("s3", "s3control"),
    "sagemaker": ("sagemaker", "sagemaker-runtime", "sagemaker-metrics", "sagemaker-featurestore-runtime"),
    "states": ("stepfunctions",),
    "tagging": ("resourcegroupstaggingapi",),
}


@dataclass(frozen=True, slots=True)
class Scope:
    """For which service and region a request was signed."""

    signing_name: str
    region: str


@dataclass(frozen=True, slots=True)
class Target:
    """The operation that a request means.

    Attributes:
        service: botocore's name of the service.
        model: the operation in the service's model.
        uri_parameters: labels found in the path.
        region: region the request was signed for.
    """

    service: str
    model: OperationModel
    uri_parameters: Mapping[str, Any]
    region: str

    @property
    def operation(self) -> str:
        """The operation's name."""
        return str(self.model.name)


def signed_scope(request: Request) -> Scope | None:
    """What the request was signed for, by header or by presigned URL; ``None`` if it is unsigned."""
    match = _CREDENTIAL.search(request.headers.get("Authorization", "")) or _PRESIGNED.fullmatch(
        request.args.get("X-Amz-Credential", "")
    )
    if match:
        return Scope(match["signing_name"].lower(), match["region"])
    if {"AWSAccessKeyId", "Signature", "Expires"} <= set(request.args):
        return Scope("s3", REGION)  # boto3 still presigns S3 with Signature Version 2 in us-east-1
    return None


def services_signed_as(signing_name: str) -> tuple[str, ...]:
    """Services (botocore's names) of a signing name, the ones tried first in front; empty for an unknown name.

    A table, because asking botocore means loading all its 400 models (45 s).
    """
    if signing_name in _SERVICES_SIGNED_AS:
        return _SERVICES_SIGNED_AS[signing_name]
    return (signing_name,) if signing_name in known_services() else ()


@cache
def known_services() -> frozenset[str]:
    """Every service that botocore has a model of."""
    return frozenset(botocore.session.get_session().get_available_services())


def find_target(request: Request, scope: Scope, services: Iterable[str]) -> Target | None:
    """The operation of one of these services that the request matches; ``None`` if it matches none."""
    for service in services:
        try:
            model, labels = get_service_router(service).match(request)
        except (NotFound, NotImplementedError):
            continue
        return Target(service, model, labels, scope.region)
    return None


def parse(request: Request, target: Target) -> dict[str, Any]:
    """The request's parameters by the model's names and types.

    Raises:
        AwsError: ``SerializationException``: the body is not what the protocol says, such as a list for a structure.
    """
    protocol = protocol_of(request, target.model.service_model)
    try:
        if protocol.endswith("json") and not _has_raw_payload(target.model):
            json.loads(request.get_data() or b"{}")  # moto's parser takes broken JSON for an empty request
        return dict(
            PROTOCOL_PARSERS[protocol](target.model).parse(
                {
                    "method": request.method,
                    "values": request.values,
                    "headers": request.headers,
                    "body": request.get_data(),
                    "url_path": request.path,
                    "url_params": target.uri_parameters,
                }
            )
        )
    except Exception as error:  # moto's parsers raise whatever the bad bytes provoke
        raise AwsError(
            "SerializationException", f"the request body does not fit {target.operation}: {error}", status=400
        ) from error


def _has_raw_payload(operation: OperationModel) -> bool:
    shape = operation.input_shape
    payload = shape.serialization.get("payload") if shape is not None else None
    return payload is not None and shape.members[payload].type_name in {"blob", "string"}


def protocol_of(request: Request, service: ServiceModel) -> str:
    """The wire protocol the caller used, one of botocore's names."""
    return str(determine_request_protocol(service, request.content_type))


def render(request: Request, target: Target, result: Mapping[str, Any] | None) -> Response:
    """A success, in the caller's protocol."""
    service = target.model.service_model
    serializer = get_serializer_class(target.service, protocol_of(request, service))
    made = serializer(operation_model=target.model).serialize(result or {})
    response = Response(made["body"], status=made["status_code"])
    response.headers.update(made["headers"])
    return response


def render_error(service: str, error: AwsError) -> Response:
    """A refusal, in the protocol of the service, so that botocore raises it under its code.

    The status is the error's own, else what the service's model gives the code, else 400.
    """
    if service not in known_services():
        return _json_error(error, error.status or 400)
    model = get_service_model(service)
    status = error.status or _modelled_status(model, error.code)
    protocol = str(model.protocol)
    if protocol == "rest-xml":
        return _xml_error(error, status, "<Error>{}</Error>")
    if protocol == "query":
        wrapping = "<ErrorResponse><Error><Type>Sender</Type>{}</Error><RequestId>local</RequestId></ErrorResponse>"
        return _xml_error(error, status, wrapping)
    response = _json_error(error, status)
    if "awsQueryCompatible" in model.metadata:
        response.headers["x-amzn-query-error"] = f"{error.code};Sender"
    return response


def _modelled_status(model: ServiceModel, code: str) -> int:
    for shape in model.error_shapes:
        if code in {shape.name, shape.error_code}:
            return int(shape.metadata.get("error", {}).get("httpStatusCode", 400))
    return 400


def _json_error(error: AwsError, status: int) -> Response:
    body = {"__type": error.code, "message": error.message, **error.members}
    return Response(
        json.dumps(body), status, {"X-Amzn-Errortype": error.code}, content_type="application/x-amz-json-1.1"
    )


def _xml_error(error: AwsError, status: int, wrapping: str) -> Response:
    inner = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    return Response(wrapping.format(inner), status, content_type="text/xml")
