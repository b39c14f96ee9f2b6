"""One device as a process, against the local cloud and a real broker: the whole road of a deployment, and outages."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from simulator.aws.server import CloudOptions, LocalCloud
from simulator.mqtt import Broker, start_broker
from simulator.nucleus.control import ask_device
from simulator.nucleus.errors import ControlError

WAIT_S = 40.0
COMPONENT = "com.example.Hello"
ACCOUNT_ARN = "arn:aws:iot:us-east-1:123456789012"


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {WAIT_S:g} s: {what}")


class Site:
    """Broker, cloud and one device process."""

    def __init__(self, folder: Path, broker: Broker, url: str) -> None:
        self.root = folder / "d"
        self.broker = broker
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.log = folder / "device.log"
        self.broker_file = folder / "address.json"
        broker.address.write(self.broker_file)
        self.session = boto3.session.Session("local", "local", region_name="us-east-1")
        self.url = url
        self.profile = "lite"
        self.process: subprocess.Popen[bytes] | None = None

    def client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self.url)

    def start_device(self) -> None:
        command = [
            sys.executable, "-m", "simulator.cli", "device", "run", "station-1", "--root", str(self.root),
            "--broker", str(self.broker_file), "--group", "ring-0", "--pace", "0.2",
            "--profile", self.profile,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        until(self.answers, "the device is up")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.status()["connected"])
        except ControlError:
            return False

    def status(self) -> dict[str, Any]:
        return ask_device(self.root, "status")  # type: ignore[no-any-return]

    def end_device(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(WAIT_S)
            self.process = None

    def publish(self, version: str, script: str, step: str = "run") -> None:
        data = f"hello from {version}\n".encode()
        s3, greengrass = self.client("s3"), self.client("greengrassv2")
        key = f"{hashlib.sha256(data).hexdigest()}/hello.txt"
        s3.create_bucket(Bucket="artifacts")
        s3.put_object(Bucket="artifacts", Key=key, Body=data)
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": COMPONENT,
            "ComponentVersion": version,
            "ComponentDescription": "says hello",
            "ComponentPublisher": "tests",
            "Manifests": [
                {
                    "Platform": {"os": "linux", "runtime": "*"},
                    "Lifecycle": {step: {"Script": script}},
                    "Artifacts": [{"Uri": f"s3://artifacts/{key}"}],
                }
            ],
        }
        greengrass.create_component_version(inlineRecipe=json.dumps(recipe).encode())

    def deploy(self, version: str, target: str = "thinggroup/ring-0") -> str:
        answer = self.client("greengrassv2").create_deployment(
            targetArn=f"{ACCOUNT_ARN}:{target}", components={COMPONENT: {"componentVersion": version}}
        )
        return str(answer["deploymentId"])

    def effective(self, deployment_id: str) -> str:
        answer = self.client("greengrassv2").list_effective_deployments(coreDeviceThingName="station-1")
        found = [each for each in answer["effectiveDeployments"] if each["deploymentId"] == deployment_id]
        return str(found[0]["coreDeviceExecutionStatus"]) if found else ""

    def component_log(self) -> str:
        return (self.root / "logs" / f"{COMPONENT}.log").read_text()


@pytest.fixture(params=["mosquitto", "iotcore"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="gg-") as name,
        start_broker(Path(name) / "broker", request.param) as broker,
        LocalCloud(CloudOptions(Path(name) / "cloud", broker=broker.address)) as cloud,
    ):
        site = Site(Path(name), broker, cloud.url)
        try:
            site.start_device()
            yield site
        finally:
            site.end_device()
            sys.stdout.write(site.log.read_text())  # pytest shows it where the test failed


HELLO = "cat {artifacts:path}/hello.txt\nexec sleep 1000"


def test_a_deployment_takes_the_whole_road_and_survives_outages(site: Site) -> None:
    site.publish("1.0.0", HELLO)
    first = site.deploy("1.0.0")
    until(lambda: site.effective(first) == "SUCCEEDED", "the first deployment")
    assert site.component_log() == "hello from 1.0.0\n"
    device = site.client("greengrassv2").get_core_device(coreDeviceThingName="station-1")
    assert (device["status"], device["coreVersion"]) == ("HEALTHY", "2.6.0")
    installed = site.client("greengrassv2").list_installed_components(coreDeviceThingName="station-1")
    (entry,) = installed["installedComponents"]
    assert (entry["componentName"], entry["componentVersion"], entry["lifecycleState"]) == (
        COMPONENT,
        "1.0.0",
        "RUNNING",
    )

    # a broken version: the old process is gone, the deployment says so
    site.publish("1.1.0", "exec sh -c 'exit 7'", "startup")
    second = site.deploy("1.1.0")
    until(lambda: site.effective(second) == "FAILED", "the refused deployment")
    assert "exit code 7" in site.status()["last_deployment"]["message"]

    # the broker gone while a deployment is under way: it ends locally, its report arrives after the reconnection
    site.publish("1.2.0", HELLO)
    third = site.deploy("1.2.0")
    until(lambda: site.effective(third) == "IN_PROGRESS", "the third deployment begins")
    site.broker.stop()
    until(lambda: site.status()["last_deployment"]["id"] == third, "it ends without a broker")
    assert site.status()["last_deployment"]["status"] == "SUCCEEDED"
    site.broker.start()
    until(lambda: site.effective(third) == "SUCCEEDED", "the report after the outage")

    # kill -9 of the whole nucleus: its component is found and ended, and a new one runs
    before = site.status()["components"][COMPONENT]["process_id"]
    site.end_device(signal.SIGKILL)
    os.kill(before, 0)  # it outlived its nucleus
    site.start_device()
    after = until(lambda: site.status()["components"][COMPONENT]["process_id"], "the component runs again")
    assert after != before
    until(lambda: not Path(f"/proc/{before}").exists() or _is_zombie(before), "the survivor is gone")


def test_of_deployments_in_haste_the_last_one_holds_on_either_nucleus(site: Site) -> None:
    for number, profile in enumerate(("java", "lite"), start=1):
        site.end_device()
        site.profile, site.root = profile, site.root.with_name(profile)
        site.start_device()
        versions = [f"{number}.{minor}.0" for minor in range(3)]
        for version in versions:
            site.publish(version, HELLO)
        in_haste = [site.deploy(version) for version in versions]
        until(lambda last=in_haste[-1]: site.effective(last) == "SUCCEEDED", "the last deployment")
        assert {site.effective(earlier) for earlier in in_haste[:-1]} <= {"SUCCEEDED", "CANCELED"}
        component = site.status()["components"][COMPONENT]
        assert (component["version"], component["state"]) == (versions[-1], "RUNNING")


def test_a_deployment_to_a_single_thing_reaches_a_java_nucleus_by_its_shadow(site: Site) -> None:
    site.end_device()
    site.profile, site.root = "java", site.root.with_name("java")
    site.publish("1.0.0", HELLO)
    site.publish("2.0.0", HELLO)
    first = site.deploy("1.0.0", "thing/station-1")  # while the device is away
    site.start_device()
    until(lambda: site.effective(first) in {"SUCCEEDED", "COMPLETED"}, "the first deployment")
    second = site.deploy("2.0.0", "thing/station-1")
    until(lambda: site.effective(second) in {"SUCCEEDED", "COMPLETED"}, "the second one")
    assert site.component_log() == "hello from 1.0.0\nhello from 2.0.0\n"


def _is_zombie(process_id: int) -> bool:
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
