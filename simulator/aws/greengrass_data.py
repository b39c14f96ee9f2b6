"""What a core device asks of the cloud without a signature: its groups, versions, artifacts and credentials.

At AWS these are TLS endpoints that know the device by its certificate. Here they are on the local cloud's own URL, and
**without TLS the device is named by the header** ``x-amzn-iot-thingname``: an agreed stand-in, no security boundary,
reachable from this machine only. Paths and bodies are the real ones (measured on Greengrass Lite 2.6.0).

Stateless; called from server threads.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError
from moto.core.request import Request
from werkzeug.wrappers import Response

from simulator.aws import validation, wire
from simulator.aws.cloud import REGION
from simulator.aws.errors import AwsError
from simulator.aws.greengrass_component_api import ComponentApi
from simulator.aws.iot_things import Group, Things

THING_HEADER = "x-amzn-iot-thingname"
CREDENTIALS_S = 3600

_PATHS = re.compile(
    r"(?P<groups>/greengrass/v2/coreDevices/(?P<device>[^/]+)/thingGroups)"
    r"|(?P<resolve>/greengrass/v2/resolveComponentCandidates)"
    r"|(?P<artifact>/greengrass/v2/components/(?P<arn>[^/]+)/artifacts/(?P<name>.+))"
    r"|(?P<credentials>/role-aliases/(?P<alias>[^/]+)/credentials)"
)


class DeviceDoor:
    """Answers devices; see :data:`simulator.aws.cloud.DeviceDoor`."""

    def __init__(self, things: Things, components: ComponentApi, clients: Callable[[str], Any]) -> None:
        """Nothing is contacted until a device asks."""
        self._things, self._components, self._clients = things, components, clients

    def __call__(self, request: Request) -> Response | None:
        """The answer, or ``None`` for a path that is not the devices'."""
        match = _PATHS.fullmatch(request.raw_path)
        if match is None:
            return None
        try:
            return self._answer(request, match)
        except AwsError as error:
            return wire.render_error("greengrassv2", error)

    def _answer(self, request: Request, match: re.Match[str]) -> Response:
        thing_name = self._identified(request)
        if match["groups"]:
            return _json(self._groups(thing_name, unquote(match["device"])))
        if match["resolve"]:
            return self._resolve(request)
        if match["artifact"]:
            return _json({"preSignedUrl": self._components.artifact_url(unquote(match["arn"]), unquote(match["name"]))})
        return _json(self._credentials(thing_name, unquote(match["alias"])))

    def _identified(self, request: Request) -> str:
        name = request.headers.get(THING_HEADER, "")
        if not name or not self._things.has(name):
            raise AwsError("AccessDeniedException", f"{THING_HEADER}: {name!r} is not a registered thing", status=403)
        return str(name)

    def _groups(self, thing_name: str, device: str) -> Mapping[str, Any]:
        if device != thing_name:
            raise AwsError("AccessDeniedException", f"{thing_name} may not read the groups of {device}", status=403)
        return {"thingGroups": [self._group(group) for group in self._things.groups_of(thing_name)]}

    def _group(self, group: Group) -> dict[str, Any]:
        above = [found for name in group.parents if (found := self._things.group(name)) is not None]
        return {
            "thingGroupArn": group.arn,
            "thingGroupName": group.name,
            "rootToParentThingGroups": [{"thingGroupArn": each.arn, "thingGroupName": each.name} for each in above],
        }

    def _resolve(self, request: Request) -> Response:
        scope = wire.Scope("greengrass", REGION)
        target = wire.find_target(request, scope, ("greengrassv2",))
        if target is None:
            raise AwsError("ValidationException", f"{request.method} {request.path} is not an operation")
        parameters = wire.parse(request, target)
        validation.validate("greengrassv2", target.model, parameters)
        return wire.render(request, target, self._components.resolve_answer(parameters))

    def _credentials(self, thing_name: str, alias: str) -> Mapping[str, Any]:
        try:
            described = self._clients("iot").describe_role_alias(roleAlias=alias)["roleAliasDescription"]
            assumed = self._clients("sts").assume_role(
                RoleArn=described["roleArn"],
                RoleSessionName=thing_name.replace(":", "-")[:64],
                DurationSeconds=described.get("credentialDurationSeconds", CREDENTIALS_S),
            )["Credentials"]
        except ClientError as error:
            sentence = f"role alias {alias}: {error.response['Error']['Message']}"
            raise AwsError("ResourceNotFoundException", sentence, status=404) from error
        return {
            "credentials": {
                "accessKeyId": assumed["AccessKeyId"],
                "secretAccessKey": assumed["SecretAccessKey"],
                "sessionToken": assumed["SessionToken"],
                "expiration": assumed["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        }


def _json(body: Mapping[str, Any]) -> Response:
    return Response(json.dumps(body), 200, content_type="application/json")
