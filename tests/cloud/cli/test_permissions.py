"""README's table of IAM actions is what the commands truly call: recorded on the local cloud, command by command."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cloud.aws.session import AwsSession
from cloud.cli.fleet_service import loops_of
from cloud.drift.attempts import AttemptLimits
from cloud.fleet.database import Database
from cloud.settings import Settings, checkout_root
from tests.cloud.publishing.conftest import write_compilation
from tests.cloud.publishing.test_cli import run, succeed

WEATHER = checkout_root() / "models" / "weather"
PREFIXES = {"greengrassv2": "greengrass", "stepfunctions": "states"}
ACTIONS = {  # where an operation is allowed by another's name
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
}
FREE = {"sts:GetCallerIdentity"}


def documented() -> dict[str, set[str]]:
    """Command to actions, its ``as`` followed."""
    text = (checkout_root() / "cloud" / "README.md").read_text()
    section = text.partition("## What the credentials may do")[2].partition("\n## ")[0]
    known: dict[str, set[str]] = {}
    for commands, cell in re.findall(r"^\| (`.*?`) \| (.*) \|$", section, re.MULTILINE):
        words = set(re.findall(r"`([^`]+)`", cell))
        actions = {word for word in words if ":" in word}
        for other in words - actions:
            actions |= known[other]
        for command in re.findall(r"`([^`]+)`", commands):
            known[command] = actions
    return known


@dataclass
class Recorder:
    """What was called since the last look."""

    called: set[str] = field(default_factory=set)

    def take(self) -> set[str]:
        taken, self.called = self.called, set()
        return {ACTIONS.get(one, one) for one in taken} - FREE


@pytest.fixture
def recorder(local_cloud: Any, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder, truly = Recorder(), AwsSession.client

    def client(self: AwsSession, service: str, region: str = "") -> Any:
        made = truly(self, service, region)

        def note(model: Any, **_: Any) -> None:
            recorder.called.add(f"{PREFIXES.get(service, service)}:{model.name}")

        made.meta.events.register("before-call", note, unique_id="permissions")
        return made

    monkeypatch.setattr(AwsSession, "client", client)
    return recorder


@pytest.fixture
def check(recorder: Recorder) -> Iterator[Callable[[str], None]]:
    table = documented()

    def checked(command: str) -> None:
        called = recorder.take()
        assert called, command
        assert called <= table[command], f"README lacks for {command}: {sorted(called - table[command])}"

    yield checked
    assert len(table) == 12


def test_the_table_of_permissions_is_what_the_commands_call(
    check: Callable[[str], None], recorder: Recorder, tmp_path: Path
) -> None:
    for _ in range(2):  # what makes, and what finds everything made
        succeed("setup")
        check("setup")
        succeed("setup", "--model", str(WEATHER))
        check("setup --model")
    succeed("train", str(WEATHER), "--data", str(write_data(tmp_path)), "--no-wait", "--name", "weather-1")
    check("train")
    run("compile", "weather-1", "--no-wait")  # refused, unless the job is done already
    succeed("compile", "s3://edgewright/nothing/model.tar.gz", "--no-wait")
    check("compile")
    folder = write_compilation(tmp_path / "compilation")
    for _ in range(2):
        succeed("publish", str(folder), "--version", "1.0.0")
        check("publish")
    make_fleet()
    recorder.take()
    for options in ((), ("--again",)):
        succeed("deploy", "linear", "1.0.0", "--to", "stations", *options)
        check("deploy")
    run("deploy", "linear", "1.0.0", "--to", "stations", "--wait", "--timeout-s", "1")
    run("deploy", "linear", "1.0.0", "--to", "ewr")
    run("deploy", "linear", "1.0.0", "--to", "nowhere")
    check("deploy")
    succeed("undeploy", "linear", "--from", "stations")
    check("undeploy")
    serve_once(tmp_path)
    check("serve")


def write_data(folder: Path) -> Path:
    data = folder / "data"
    data.mkdir()
    (data / "rows.csv").write_text("a\n1\n")
    return data


def make_fleet() -> None:
    session = AwsSession("us-east-1")
    iot = session.client("iot")
    iot.create_thing_group(thingGroupName="stations")
    iot.create_thing(thingName="ewr")
    iot.add_thing_to_thing_group(thingGroupName="stations", thingName="ewr")
    recipe = (
        b'{"RecipeFormatVersion": "2020-01-25", "ComponentName": "com.edgewright.Runtime", "ComponentVersion": "0.1.0",'
        b' "Manifests": [{"Platform": {"os": "linux", "runtime": "*"}, "Lifecycle": {"run": {"Script": "exec true"}}}]}'
    )
    session.client("greengrassv2").create_component_version(inlineRecipe=recipe)


def serve_once(folder: Path) -> None:
    """One step of each loop of ``edgewright serve``, with something to do for each."""
    session, settings = AwsSession("us-east-1"), Settings.from_environment()
    queue = session.client("sqs")
    url = queue.get_queue_url(QueueName=settings.ingest_queue)["QueueUrl"]
    queue.send_message(QueueUrl=url, MessageBody="rubbish, to be parked")
    database = Database(folder / "fleet.db")
    loops: dict[str, Any] = loops_of(settings, database, session, AttemptLimits())
    loops["ingest"].drain_once()
    loops["reconcile"].pass_once()
    loops["drift"].pass_once()
    database.close()
