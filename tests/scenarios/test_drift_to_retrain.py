"""Drift to retrain, for real but for the devices: half-months of three stations' weather arrive as telemetry, the watch
finds the drift, EventBridge starts the machine, three SageMaker jobs run, and version 1.1.0 is there, better on held-out
time than the model it replaces. The command line, the local cloud, the queue, the store and the loops are the real ones.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import onnxruntime
import pytest

from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.publishing.record import Layout, PublicationRecord
from cloud.s3_uri import S3Uri
from cloud.settings import checkout_root
from edge_component.contracts.baseline import Baseline, baseline_id
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.telemetry import ServiceCounts, TelemetryWindow
from simulator.aws.server import CloudOptions, LocalCloud
from tests.cloud.drift.samples import counted

pytest.importorskip("skl2onnx", reason="the weather example needs the [training] extra")
pytestmark = pytest.mark.slow

WEATHER = checkout_root() / "models" / "weather"
BUCKET = "edgewright"
DEADLINE_S = 120.0


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)
    return found


@dataclass
class World:
    """A local cloud with edgewright beside it; ``run`` is the command line."""

    folder: Path
    environment: dict[str, str]
    session: AwsSession

    def run(self, *arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "cloud.cli.app", *arguments, "-o", "json"],
            env=self.environment, cwd=checkout_root(), capture_output=True, text=True, timeout=DEADLINE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def observations(self, until: str) -> Path:
        folder = self.folder / f"until-{until}"
        script = [sys.executable, "data.py", "--output", str(folder), "--from", "2013-01-01", "--to", until]
        subprocess.run(script, cwd=WEATHER, check=True, capture_output=True, timeout=DEADLINE_S)
        return folder


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with LocalCloud(CloudOptions(tmp_path / "cloud")) as cloud:
        variables = {
            "AWS_ENDPOINT_URL": cloud.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "EDGEWRIGHT_DATABASE_URL": f"sqlite:///{tmp_path / 'fleet.db'}",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield World(tmp_path, {**os.environ, **variables}, AwsSession("us-east-1"))


@pytest.fixture
def api(world: World) -> Iterator[httpx.Client]:
    command = [sys.executable, "-m", "cloud.cli.app", "serve", "--port", "0"]
    with subprocess.Popen(
        command, env=world.environment, cwd=checkout_root(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            with httpx.Client(base_url=process.stdout.readline().strip(), timeout=10, trust_env=False) as client:
                yield client
        finally:
            process.terminate()
            process.wait(60)


class Telemetry:
    """What three stations' runtimes would send of a published model's work."""

    def __init__(self, world: World, weather: Any) -> None:
        store, layout = ObjectStore(world.session), Layout(BUCKET)
        record = PublicationRecord.from_bytes(store.get_bytes(layout.record("com.edgewright.model.Weather", "1.0.0")))
        (uri,) = store.list(S3Uri(BUCKET, "baselines/"))
        data = store.get_bytes(uri)
        graph = store.get_file(layout.incumbent("weather", "1.0.0"), world.folder / "model.onnx")
        self.model = ModelRef("weather", "1.0.0", record.digests["linux/x86_64"])
        self.baseline, self.baseline_id = Baseline.from_bytes(data), baseline_id(data)
        self.infer = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        self.iot = world.session.client("iot-data")
        self.weather, self.sequence = weather, 0
        self.examples = {one.station: weather.examples(one).labelled() for one in weather.read_package()}

    def send(self, starts_at: datetime, ends_at: datetime) -> None:
        first, end = self.weather.hour_of(starts_at), self.weather.hour_of(ends_at)
        for station, examples in self.examples.items():
            seen = examples.features[(examples.hours >= first) & (examples.hours < end)]
            columns = [
                (column.name, counted(column, seen[:, index])) for index, column in enumerate(self.baseline.features)
            ]
            scores = self.infer.run(["probabilities"], {"input": seen})[0][:, 1]
            (output,) = self.baseline.outputs
            for part, half in enumerate((dict(columns[:8]), dict(columns[8:]))):
                self.sequence += 1
                window = TelemetryWindow(
                    self.model, self.baseline_id, f"{station}-{first}", starts_at, ends_at, 1, len(seen), half,
                    {output.name: counted(output, scores)} if part == 0 else {},
                    ServiceCounts(len(seen)) if part == 0 else None, part=part, part_count=2,
                )  # fmt: skip
                thing = f"station-{station.lower()}"
                envelope = Envelope("window", thing, "e1", self.sequence, datetime.now(UTC), window.to_document())
                self.iot.publish(topic=f"edgewright/v1/{thing}/window", qos=1, payload=envelope.to_bytes())


@pytest.fixture
def weather(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import importlib

    monkeypatch.syspath_prepend(str(WEATHER))
    yield importlib.import_module("data")
    sys.modules.pop("data", None)


def half_months(first: int, last: int) -> list[tuple[datetime, datetime]]:
    days = [datetime(2013, month, day, tzinfo=UTC) for month in range(first, last + 1) for day in (1, 16)]
    return list(zip(days, [*days[1:], datetime(2013, last + 1, 1, tzinfo=UTC)], strict=True))


def test_a_drifting_world_ends_in_a_better_version(
    world: World, weather: Any, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = f"s3://{BUCKET}/data/weather/"
    (machine,) = world.run("setup", "--model", str(WEATHER), "--data", lake)["models"]
    job = world.run("train", str(WEATHER), "--data", str(world.observations("2013-03-01")))["job_name"]
    world.run("compile", job, "--to", str(world.folder / "compilation"))
    world.run("publish", str(world.folder / "compilation"), "--version", "1.0.0")
    store = ObjectStore(world.session)
    for path in world.observations("2013-06-01").glob("*.csv"):
        store.put_file(S3Uri.parse(lake) / path.name, path)
    api = request.getfixturevalue("api")
    telemetry = Telemetry(world, weather)
    for count, (starts_at, ends_at) in enumerate(half_months(3, 5), start=1):
        telemetry.send(starts_at, ends_at)
        wait_for(lambda count=count: len(decisions(api)) == 3 * count, f"decisions on {starts_at:%B}")
    actions = [decision["action"] for decision in decisions(api)]
    assert set(actions[:6]) == {"none"}, "March is quiet"
    assert "retrain" in actions
    execution = wait_for(lambda: ended(world, machine["state_machine_arn"]), "the machine to end")
    assert execution["status"] == "SUCCEEDED", execution
    output = json.loads(execution["output"])
    retrained_by = output["train"]["job_arn"].rpartition("/")[2]
    described = world.session.client("sagemaker").describe_training_job(TrainingJobName=retrained_by)
    metrics = {one["MetricName"]: one["Value"] for one in described["FinalMetricDataList"]}
    with capsys.disabled():
        print(f"\n{output['detail']['sentence']}\nlog loss on held-out time: {metrics['incumbent:log_loss']:.3f}"
              f" before, {metrics['validation:log_loss']:.3f} after")  # fmt: skip
    assert metrics["validation:log_loss"] < metrics["incumbent:log_loss"]
    record = PublicationRecord.from_bytes(
        store.get_bytes(Layout(BUCKET).record("com.edgewright.model.Weather", "1.1.0"))
    )
    assert (record.model_name, record.stamp.release) == ("weather", 2)
    told = wait_for(lambda: two_incident_events(api), "the retraining's end to be told")
    assert [event["outcome"] for event in told] == ["succeeded", "announced"]
    (retrained,) = [one for one in api.get("/v1/models").json()["items"] if one["retraining"]]
    assert (retrained["version"], retrained["retraining"]["state"]) == ("1.0.0", "succeeded")


def decisions(api: httpx.Client) -> list[dict[str, Any]]:
    """The oldest first."""
    return list(reversed(api.get("/v1/drift?limit=500").json()["items"]))


def two_incident_events(api: httpx.Client) -> Any:
    items = api.get("/v1/events?kind=incident").json()["items"]
    return items if len(items) >= 2 else None


def ended(world: World, machine_arn: str) -> Any:
    client = world.session.client("stepfunctions")
    found = client.list_executions(stateMachineArn=machine_arn)["executions"]
    assert len(found) <= 1, "one incident, one retraining"
    if not found or found[0]["status"] == "RUNNING":
        return None
    return client.describe_execution(executionArn=found[0]["executionArn"])
