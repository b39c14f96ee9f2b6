"""AWS throttles each call of each command: once, and the command succeeds all the same; for good, and it says so."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.retries.standard import ExponentialBackoff

from cloud.aws.session import AwsSession
from cloud.settings import checkout_root
from tests.cloud.cli.test_permissions import make_fleet, write_data
from tests.cloud.publishing.conftest import write_compilation
from tests.cloud.publishing.test_cli import refuse, succeed

WEATHER = checkout_root() / "models" / "weather"
BODIES = {
    "rest-xml": (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
    "query": (
        400,
        b"<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>",
    ),
}
JSON = (400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}')

Throttle = Callable[[Callable[[str, int], bool]], None]


class Answer(BytesIO):
    """What botocore reads a body from."""

    def stream(self, **_: object) -> Any:
        yield self.read()


@pytest.fixture
def throttle(local_cloud: Any, monkeypatch: pytest.MonkeyPatch) -> Throttle:
    """Sets who is throttled: by operation, such as ``kms.Sign``, and attempt, from 1."""
    chosen: list[Callable[[str, int], bool]] = []
    truly = AwsSession.client

    def client(self: AwsSession, service: str, region: str = "") -> Any:
        made = truly(self, service, region)
        status, body = BODIES.get(made.meta.service_model.metadata["protocol"], JSON)

        def answer(request: Any, event_name: str, **_: Any) -> AWSResponse | None:
            attempt = int(request.headers["amz-sdk-request"].decode().partition("attempt=")[2].partition(";")[0])
            if not chosen[-1](event_name.removeprefix("before-send."), attempt):
                return None
            headers = {"x-amzn-errortype": "ThrottlingException", "content-length": str(len(body))}
            return AWSResponse(request.url, status, headers, Answer(body))

        made.meta.events.register("before-send", answer, unique_id="throttle")
        return made

    monkeypatch.setattr(AwsSession, "client", client)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)
    return chosen.append


def test_a_call_that_is_throttled_once_is_made_again(throttle: Throttle, tmp_path: Path) -> None:
    throttled: set[str] = set()

    def first_attempts(operation: str, attempt: int) -> bool:
        if attempt == 1:
            throttled.add(operation)
        return attempt == 1

    throttle(lambda *_: False)
    make_fleet()
    throttle(first_attempts)
    succeed("setup", "--model", str(WEATHER))
    succeed("train", str(WEATHER), "--data", str(write_data(tmp_path)), "--no-wait", "--name", "weather-1")
    folder = write_compilation(tmp_path / "compilation")
    assert succeed("publish", str(folder), "--version", "1.0.0")["release"] == 1
    (deployment,) = succeed("deploy", "linear", "1.0.0", "--to", "stations")["deployments"]
    assert deployment["is_new"]
    (kept,) = succeed("deploy", "linear", "1.0.0", "--to", "stations")["deployments"]
    assert (kept["is_new"], kept["deployment_id"]) == (False, deployment["deployment_id"])
    assert {"s3.PutObject", "kms.Sign", "greengrassv2.CreateDeployment", "iam.CreateRole"} <= throttled


@pytest.mark.parametrize("operation", ["s3.PutObject", "kms.Sign", "greengrassv2.CreateComponentVersion"])
def test_a_call_that_is_throttled_for_good_is_said_so_and_completed_later(
    throttle: Throttle, tmp_path: Path, operation: str
) -> None:
    throttle(lambda *_: False)
    succeed("setup")
    folder = write_compilation(tmp_path / "compilation", model_name=operation.partition(".")[2].lower())
    throttle(lambda asked, _: asked == operation)
    sentence = refuse(5, "publish", str(folder), "--version", "1.0.0")
    assert "SlowDown" in sentence or "ThrottlingException" in sentence
    assert "Run the same command again" in sentence
    throttle(lambda *_: False)
    assert succeed("publish", str(folder), "--version", "1.0.0")["release"] == 1
