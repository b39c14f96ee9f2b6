"""Bad input on its way from one part to the next: refused where it must be, told where people look, nothing lost.

What each part refuses by itself is that part's tests'; here the whole road is walked, and the last word is the device's
application's: what served before serves on.
"""

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx
import pytest

from cloud.aws.s3 import ObjectStore
from cloud.aws.sqs import SqsQueue
from cloud.settings import Settings
from edge_component.contracts.envelope import Envelope
from simulator.mqtt import MqttClient, credentials_for
from simulator.processes import CommandFailedError
from tests.cloud.publishing.outage_proxy import OutageProxy
from tests.scenarios.counterfeits import archive_uri, publish_expired, replace_archive, with_one_byte_changed
from tests.scenarios.installation import RUNTIME, Installation, Station, wait_for

pytestmark = pytest.mark.slow

STILL_PENDING = 5
OTHER_PLATFORM = {"linux/x86_64": "linux/aarch64", "linux/aarch64": "linux/x86_64"}

MakeBad = Callable[[Installation, Station], str]


def tampered(installation: Installation, _: Station) -> str:
    version = installation.publish()
    replace_archive(installation, version, with_one_byte_changed)
    return version


def signed_by_a_stranger(installation: Installation, _: Station) -> str:
    key = installation.world.folder / "stranger.pem"
    installation.world.edgewright("keys", "create", "--file", str(key))
    return installation.publish("--key", str(key))


def expired(installation: Installation, _: Station) -> str:
    return publish_expired(installation)


def made_for_another_platform(installation: Installation, _: Station) -> str:
    version = installation.publish()
    other = archive_uri(installation, version, OTHER_PLATFORM[installation.world.platform])
    replace_archive(installation, version, lambda _: ObjectStore(installation.session).get_bytes(other))
    return version


def older_than_what_was_committed(installation: Installation, station: Station) -> str:
    older = installation.publish()
    station.change_to(installation.publish())
    return older


REFUSED = [
    (tampered, "bundle-tampered", "model.onnx is not the file that was signed"),
    (signed_by_a_stranger, "bundle-untrusted-key", "key"),
    (expired, "bundle-expired", "expired at"),
    (made_for_another_platform, "bundle-wrong-platform", "made for"),
    (older_than_what_was_committed, "bundle-older-release", "this device has committed release"),
]


@pytest.mark.parametrize(("make_bad", "code", "words"), REFUSED, ids=[case[1] for case in REFUSED])
def test_a_bad_bundle_is_refused_on_the_device_with_its_reason_told(
    installation: Installation, station: Station, make_bad: MakeBad, code: str, words: str
) -> None:
    bad = make_bad(installation, station)
    before = station.heartbeat()
    old = before.models[0].active
    station.fail_to_change_to(bad)
    assert (station.ask().model, station.heartbeat().process_id) == (old, before.process_id)
    told = wait_for(lambda: station.events("activation", bad), "the refusal to be told")
    assert {event["outcome"] for event in told} == {"refused"}
    for sentence in (event["sentence"] for event in told):
        assert sentence.startswith(f"linear {bad} was refused in verify ({code}): ")
        assert words in sentence
        assert sentence.endswith(f". linear {old.version} serves.")
    judged = f"linear {bad} failed to deploy; {old.version} serves (FAILED_ROLLBACK_NOT_REQUESTED)."
    wait_for(lambda: station.in_the_cloud()["status_sentence"] == judged, "the judgement")
    assert station.in_the_cloud()["status"] == "failed"


def test_an_object_that_was_overwritten_never_reaches_the_runtime_and_its_return_heals(
    installation: Installation, station: Station
) -> None:
    before, version = station.serving(), installation.publish()
    store = ObjectStore(installation.session)
    uri = archive_uri(installation, version, installation.world.platform)
    genuine = store.get_bytes(uri)
    store.put_bytes(uri, with_one_byte_changed(genuine))
    station.fail_to_change_to(version)
    assert "digest" in station.nucleus()["last_deployment"]["message"]
    assert (station.serving(), station.outcomes(version)) == (before, [])
    assert station.events("deployment")[-1]["outcome"] == "FAILED"
    store.put_bytes(uri, genuine)
    station.deploy(version, "--wait", "--again")
    station.wait_reported(version)
    assert (station.serving(), station.outcomes(version)) == (version, ["activated"])


@pytest.fixture
def small_station(installation: Installation) -> Iterator[Station]:
    """A station whose components' work folder is a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    name = "station-small"
    work = installation.world.devices / name / "work" / RUNTIME
    work.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", work], check=True)
    small = None
    try:
        small = installation.start_station(name)
        yield small
    finally:
        if small is not None:
            small.nucleus("power-off")
        subprocess.run(["umount", work], check=True)


def test_a_full_disk_refuses_the_new_one_says_so_and_takes_it_once_there_is_room(
    installation: Installation, small_station: Station
) -> None:
    first = installation.publish()
    small_station.install(first)
    large = installation.publish(folder=with_ballast(installation.compile(installation.next_version()), 3_000_000))
    filler = small_station.work / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, small_station.heartbeat().disk_free_bytes - 1_000_000)
    small_station.fail_to_change_to(large)
    assert small_station.serving() == first
    told = wait_for(lambda: small_station.events("activation", large), "the refusal to be told")
    assert {event["outcome"] for event in told} == {"refused"}
    assert all(f"linear {large} was refused in store (store-full): " in event["sentence"] for event in told), told
    assert small_station.in_the_cloud()["disk_free_bytes"] <= 1_000_000
    filler.unlink()
    small_station.deploy(large, "--wait", "--again")
    small_station.wait_reported(large)
    assert small_station.serving() == large


def with_ballast(folder: Path, size_bytes: int) -> Path:
    """A compilation whose models are so much larger, and compute the same."""
    for path in folder.glob("*/model.onnx"):
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {"ballast": "x" * size_bytes})
        onnx.save(model, path)
    return folder


def test_without_its_nucleus_a_runtime_serves_on_even_over_a_restart_and_tells_everything_later(
    installation: Installation, station: Station
) -> None:
    before, version = station.heartbeat(), station.serving()
    station.nucleus("stop-ipc")
    try:
        wait_for(lambda: "the nucleus is gone; serving goes on" in station.log(RUNTIME), "it to say so")
        station.ask()
        station.nucleus("kill-component", name=RUNTIME)
        answer = station.ask(deadline_s=30)
        assert answer.model == before.models[0].active
        assert station.heartbeat().process_id != before.process_id
        since_ms, already_asked_count = station.start_counting()
        station.ask()
        station.close_windows()
        assert station.heartbeat().outbox.queued_count >= 2, "what it has to tell waits"
    finally:
        station.nucleus("start-ipc")
    stored = wait_for(lambda: installation.stored_windows(station.name, since_ms), "its telemetry to arrive")
    assert [(stored_version, count) for _, stored_version, count in stored] == [
        (version, station.asked_count - already_asked_count)
    ]
    assert station.outcomes()[-1] == "restored"
    assert station.heartbeat().outbox.dropped_count == 0


@pytest.fixture
def impostor(installation: Installation, station: Station) -> Iterator[MqttClient]:
    """Somebody with the station's own certificate, who speaks no Edgewright."""
    address = installation.world.broker.address
    client = MqttClient(address, "impostor", credentials_for(address, station.name))
    client.connect()
    yield client
    client.disconnect()


def message(station: Station, **changes: Any) -> bytes:
    """A heartbeat's envelope around nothing, in the station's name, with these fields changed."""
    document = Envelope("heartbeat", station.name, "epoch", 1, datetime.now(UTC), {}).to_document()
    return json.dumps({**document, **changes}).encode()


def test_malformed_telemetry_is_parked_with_its_reason_and_counted_and_the_rest_goes_on(
    installation: Installation, station: Station, impostor: MqttClient
) -> None:
    garbage = {
        "malformed": [b"\x00\xff no JSON", b"{}", message(station)],
        "identity": [message(station, thing_name="station-jfk")],
        "unsupported-version": [message(station, schema="edgewright.message/2")],
        "kind-mismatch": [message(station, kind="window")],
    }
    sent = sorted((code, payload) for code, payloads in garbage.items() for payload in payloads)
    before, device = counters(installation), station.in_the_cloud()
    for _, payload in sent:
        impostor.publish(f"$aws/rules/edgewright_ingest/edgewright/v1/{station.name}/heartbeat", payload)
    parked: list[tuple[str, bytes]] = []
    wait_for(lambda: parked.extend(drained(installation)) or len(parked) >= len(sent), "all of it to be parked")
    assert sorted(parked) == sent
    after = counters(installation)
    counted = {code: after[f"rejected:{code}"] - before.get(f"rejected:{code}", 0) for code in garbage}
    assert counted == {code: len(payloads) for code, payloads in garbage.items()}
    wait_for(lambda: station.in_the_cloud()["recorded_at"] > device["recorded_at"], "the next true heartbeat")
    assert installation.world.api("/healthz")["status"] == "ok"


def counters(installation: Installation) -> dict[str, int]:
    found: dict[str, int] = installation.world.api("/healthz")["counters"]
    return found


def drained(installation: Installation) -> Iterator[tuple[str, bytes]]:
    """Code and payload of every message in the dead-letter queue, which is empty then."""
    url = SqsQueue(installation.session, Settings.from_environment().ingest_queue).dead_url
    client = installation.session.client("sqs")
    while received := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get(
        "Messages"
    ):
        for entry in received:
            texts = {name: attribute["StringValue"] for name, attribute in entry["MessageAttributes"].items()}
            assert texts["reason"].endswith("."), "a sentence for a person"
            yield texts["code"], base64.b64decode(json.loads(entry["Body"])["payload_b64"])
            client.delete_message(QueueUrl=url, ReceiptHandle=entry["ReceiptHandle"])


@pytest.fixture
def far_station(installation: Installation) -> Iterator[tuple[Station, OutageProxy]]:
    """A station whose way to S3 and to the data plane can be cut."""
    proxy = OutageProxy(installation.world.endpoint_url)
    yield installation.start_station("station-far", {"AWS_ENDPOINT_URL": proxy.url}), proxy
    proxy.outage_after = None
    proxy.stop()


def test_with_s3_gone_in_mid_deployment_the_device_waits_and_the_same_command_sees_it_done(
    installation: Installation, far_station: tuple[Station, OutageProxy]
) -> None:
    station, proxy = far_station
    old = installation.publish()
    station.install(old)
    new = installation.publish()
    proxy.outage_after = 2  # thing groups and recipe; the artifacts do not get through
    with pytest.raises(CommandFailedError) as caught:
        station.deploy(new, "--wait", "--timeout-s", "4")
    assert caught.value.exit_code == STILL_PENDING
    assert proxy.outage_after == 0, "it was under way"
    assert station.serving() == old
    proxy.outage_after = None
    done = station.deploy(new, "--wait")
    assert [entry["is_new"] for entry in done["deployments"]] == [False]
    assert [device["status"] for device in done["devices"]] == ["SUCCEEDED"]
    station.wait_reported(new)
    assert station.outcomes(new) == ["activated"]
