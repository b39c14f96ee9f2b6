"""Components from the Greengrass data plane and S3: :class:`simulator.nucleus.ports.ComponentSource` over HTTP.

The paths and bodies are the real data plane's (measured on Lite). Without TLS the device is named by a header: an agreed
stand-in on one machine, no security boundary. Artifacts come from S3 with the credentials of the role alias.

Blocks; safe from several threads.
"""

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from simulator.nucleus.errors import ResolutionError, SourceRefusedError, SourceUnavailableError
from simulator.nucleus.ports import Platform, ResolvedComponent

THING_HEADER = "x-amzn-iot-thingname"
ROLE_ALIAS = "EdgewrightTokenExchange"
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 20
SERVER_ERROR = 500


class DataPlane:
    """One device's view of the cloud at ``url``."""

    def __init__(self, url: str, thing_name: str, region: str = "us-east-1", role_alias: str = ROLE_ALIAS) -> None:
        """Nothing is contacted."""
        self._url = url.rstrip("/")
        self._thing_name = thing_name
        self._region = region
        self._role_alias = role_alias
        self._lock = threading.Lock()
        self._client: Any = None

    def thing_groups(self) -> tuple[str, ...]:
        """``GET /greengrass/v2/coreDevices/<thing>/thingGroups``, including the groups above those."""
        answer = self._ask(f"/greengrass/v2/coreDevices/{quote(self._thing_name, safe='')}/thingGroups")
        groups: dict[str, None] = {}
        for group in answer.get("thingGroups", ()):
            for entry in (group, *group.get("rootToParentThingGroups", ())):
                groups[entry["thingGroupName"]] = None
        return tuple(groups)

    def resolve(self, name: str, requirement: str, platform: Platform) -> ResolvedComponent:
        """``POST /greengrass/v2/resolveComponentCandidates``, one component at a time, as Lite asks."""
        attributes = {"runtime": platform.runtime, "os": platform.os, "architecture": platform.architecture}
        request = {
            "componentCandidates": [{"componentName": name, "versionRequirements": {"requirements": requirement}}],
            "platform": {"name": platform.os, "attributes": attributes},
        }
        try:
            answer = self._ask("/greengrass/v2/resolveComponentCandidates", request)
        except SourceRefusedError as error:
            raise ResolutionError(f"{name} {requirement!r}: {error}") from error
        found = [entry for entry in answer.get("resolvedComponentVersions", ()) if entry.get("componentName") == name]
        if not found:
            raise ResolutionError(f"the cloud has no version of {name} that satisfies {requirement!r}")
        recipe = base64.b64decode(found[0]["recipe"])
        return ResolvedComponent(name, found[0]["componentVersion"], found[0]["arn"], recipe)

    def fetch(self, arn: str, uri: str, destination: Path) -> None:
        """Download ``s3://…`` with the device's credentials, or ``greengrass:…`` by the data plane's own address."""
        scheme, _, rest = uri.partition(":")
        if scheme == "s3":
            bucket, _, key = rest.removeprefix("//").partition("/")
            self._fetch_object(bucket, key, destination)
        elif scheme == "greengrass":
            name = quote(rest.partition("/")[2], safe="")
            answer = self._ask(f"/greengrass/v2/components/{quote(arn, safe='')}/artifacts/{name}")
            self._download(answer["preSignedUrl"], destination)
        else:
            raise SourceRefusedError(f"{uri} is neither in S3 nor at Greengrass", "Use an s3:// address.")

    def _fetch_object(self, bucket: str, key: str, destination: Path) -> None:
        try:
            body = self._s3().get_object(Bucket=bucket, Key=key)["Body"]
            with destination.open("wb") as stream:
                for chunk in body.iter_chunks(CHUNK_BYTES):
                    stream.write(chunk)
        except ClientError as error:
            self._client = None  # perhaps its credentials have expired
            sentence = f"s3://{bucket}/{key}: {error.response['Error'].get('Message', error)}"
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= SERVER_ERROR:
                raise SourceUnavailableError(sentence) from error
            raise SourceRefusedError(sentence) from error
        except BotoCoreError as error:
            raise SourceUnavailableError(f"s3://{bucket}/{key}: {error}") from error

    def _s3(self) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        with self._lock:
            if self._client is None:
                given = self._ask(f"/role-aliases/{quote(self._role_alias, safe='')}/credentials")["credentials"]
                self._client = boto3.session.Session().client(
                    "s3",
                    endpoint_url=self._url,
                    region_name=self._region,
                    aws_access_key_id=given["accessKeyId"],
                    aws_secret_access_key=given["secretAccessKey"],
                    aws_session_token=given["sessionToken"],
                    config=Config(connect_timeout=5, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 2}),
                )
            return self._client

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {THING_HEADER: self._thing_name, "Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers)  # noqa: S310 - the endpoint is the user's own
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the local cloud's own http URL
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                words = error.read(500).decode(errors="replace")
            raise _by_status(error.code, f"{path} {words}") from error
        except (OSError, ValueError) as error:
            raise SourceUnavailableError(f"{self._url}{path}: {error}") from error
        return document if isinstance(document, Mapping) else {}

    def _download(self, url: str, destination: Path) -> None:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, destination.open("wb") as stream:  # noqa: S310 - the local cloud's own http URL
                while chunk := answer.read(CHUNK_BYTES):
                    stream.write(chunk)
        except urllib.error.HTTPError as error:
            with error:
                raise _by_status(error.code, url) from error
        except OSError as error:
            raise SourceUnavailableError(f"{url}: {error}") from error


def _by_status(status: int, what: str) -> SourceUnavailableError | SourceRefusedError:
    """A server in trouble may answer later; whoever says no, or knows no such operation (501), says so again."""
    is_passing = status >= SERVER_ERROR and status != 501
    return (SourceUnavailableError if is_passing else SourceRefusedError)(f"{what}: {status}")
