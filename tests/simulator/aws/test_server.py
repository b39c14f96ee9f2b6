"""The local cloud as a process: one at a time, a taken port, a missing broker, each start empty."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from simulator.aws.cloud import Cloud
from simulator.aws.errors import LocalCloudError
from simulator.aws.front import Front
from simulator.aws.server import CloudOptions, LocalCloud, main
from simulator.mqtt import BrokerAddress, BrokerUnavailableError


def s3(url: str):
    return boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1"
    )


def test_alone_it_says_where_it_answers_and_ends_with_the_signal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator.aws.server", "--state-dir", str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        s3(url).create_bucket(Bucket="bucket")
        assert (tmp_path / "state").is_dir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_each_starts_empty_and_only_one_runs_in_a_process(tmp_path: Path) -> None:
    with LocalCloud(CloudOptions(tmp_path)) as first:
        s3(first.url).create_bucket(Bucket="bucket")
        with pytest.raises(LocalCloudError, match="runs in this process already"):
            LocalCloud(CloudOptions(tmp_path)).start()
    with LocalCloud(CloudOptions(tmp_path)) as second:
        assert s3(second.url).list_buckets()["Buckets"] == []


def test_a_taken_port_is_one_clear_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--state-dir", str(tmp_path)]) == 1
    assert f"port {port} of 127.0.0.1 is taken" in capsys.readouterr().err
    with LocalCloud(CloudOptions(tmp_path)):
        pass  # nothing was left running


def test_an_address_file_that_is_none_is_one_clear_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broker.json").write_text("{}")
    assert main(["--state-dir", str(tmp_path), "--broker", str(tmp_path / "broker.json")]) == 1
    assert "is not a broker address" in capsys.readouterr().err


def test_a_missing_broker_leaves_nothing_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    local = LocalCloud(CloudOptions(tmp_path, broker=BrokerAddress("127.0.0.1", port), broker_timeout_s=0.5))
    with pytest.raises(BrokerUnavailableError):
        local.start()
    with LocalCloud(CloudOptions(tmp_path)):
        pass


def test_a_stopped_cloud_answers_nobody_on_connections_that_are_still_open(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    front = Front(cloud.operations)
    front.closed = True
    statuses: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": None, "SERVER_NAME": "x", "SERVER_PORT": "1",
               "wsgi.url_scheme": "http"}  # fmt: skip
    list(front(environ, lambda status, headers: statuses.append(status)))
    assert statuses == ["503 SERVICE UNAVAILABLE"]


def test_every_stop_action_runs_also_after_one_that_failed(tmp_path: Path) -> None:
    cloud, ended = Cloud(tmp_path), list[str]()
    cloud.on_stop(lambda: ended.append("first made, last ended"))
    cloud.on_stop(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cloud.stopping()
    assert ended == ["first made, last ended"]


def test_only_what_was_started_is_stopped(tmp_path: Path) -> None:
    cloud, ended = Cloud(tmp_path), list[str]()
    for name, start in (("one", lambda: None), ("two", lambda: 1 / 0), ("three", lambda: None)):
        cloud.on_start(start)
        cloud.on_stop(lambda name=name: ended.append(name))
    with pytest.raises(ZeroDivisionError):
        cloud.started()
    cloud.stopping()
    assert ended == ["one"]


def test_a_handler_that_breaks_is_a_500_with_its_reason_and_the_cloud_lives(tmp_path: Path) -> None:
    with LocalCloud(CloudOptions(tmp_path)) as local:
        local.cloud.operations.serve("s3", {"ListBuckets": lambda call: 1 / 0})
        request = urllib.request.Request(
            local.url + "/",
            headers={"Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/s3/aws4_request, X=Y"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        with caught.value as answer:
            assert (answer.code, b"ZeroDivisionError" in answer.read()) == (500, True)
        s3(local.url).create_bucket(Bucket="bucket")


def test_many_callers_at_once(tmp_path: Path) -> None:
    def work(number: int) -> None:
        client = s3(local.url)
        for key in range(10):
            client.put_object(Bucket="bucket", Key=f"{number}/{key}", Body=b"x" * 100)

    with LocalCloud(CloudOptions(tmp_path)) as local:
        s3(local.url).create_bucket(Bucket="bucket")
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))  # raises what a worker raised
        assert s3(local.url).list_objects_v2(Bucket="bucket")["KeyCount"] == 60
