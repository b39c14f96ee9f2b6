"""The runtime as a process, through its real doors: what it takes and tells, what it survives, when it refuses to start."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_component import cli
from edge_component.client import Client, ClientError, RefusedError
from edge_component.contracts.envelope import Envelope
from tests.edge_component.bundle_factory import COMPONENT, BundleFactory
from tests.edge_component.runtime_process import ROW, RuntimeProcess, StartRuntime, activate


def test_a_bundle_is_activated_answers_and_survives_a_restart(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    runtime = start_runtime()
    bundle = bundles.scale("1.0.0", 2.0)
    event = runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    assert (event.outcome, event.phase, event.code) == ("activated", "switch", "")
    with Client(runtime.infer_socket) as client:
        answer = client.infer("scale", {"x": ROW})
        np.testing.assert_array_equal(answer.outputs["y"], ROW * 2)
        assert (answer.model.name, answer.model.version, answer.model.digest) == ("scale", "1.0.0", bundle.digest)
        assert runtime.terminate() == 0
        bundle.archive.unlink()
        again = start_runtime(runtime.work)
        np.testing.assert_array_equal(client.infer("scale", {"x": ROW}).outputs["y"], ROW * 2)
        assert [model.active.version for model in again.admin.status().models] == ["1.0.0"]


def test_two_runtimes_do_not_share_a_folder_and_a_stale_socket_is_replaced(start_runtime: StartRuntime) -> None:
    runtime = start_runtime()
    second = start_runtime(runtime.work, wait=False)
    assert second.process.wait(30) == 1
    assert "another runtime serves" in second.log_text()
    runtime.admin.status()
    runtime.kill()
    assert runtime.infer_socket.is_socket(), "kill -9 leaves it behind"
    start_runtime(runtime.work).admin.status()


@pytest.mark.parametrize(("content", "told"), [(None, "no public key"), (b"no key", "not a public key")])
def test_without_a_key_to_trust_it_does_not_start_and_says_why(
    content: bytes | None, told: str, tmp_path: Path
) -> None:
    trust = tmp_path / "trust"
    trust.mkdir()
    if content is not None:
        (trust / "a.pem").write_bytes(content)
    runtime = RuntimeProcess(tmp_path / "work", trust, wait=False)
    assert runtime.process.wait(30) == 1
    assert told in runtime.log_text()


def test_what_is_amiss_with_the_configuration_is_a_reason_and_no_obstacle(start_runtime: StartRuntime) -> None:
    misread = {"heartbeat_s": "soon", "window_s": "30", "connections_max": 0, "oip_rest_prot": 8000, "streams": {}}
    runtime = start_runtime(config=misread)
    status = runtime.admin.status()
    assert status.health == "degraded"
    assert [reason.split(":")[0] for reason in status.reasons] == [
        "configuration field heartbeat_s",
        "configuration field connections_max",
    ]
    for reason in status.reasons:
        assert runtime.log_text().count(reason) == 1
    assert "fields that nothing here reads: 'oip_rest_prot'\n" in runtime.log_text()


def test_what_it_has_to_tell_waits_in_the_outbox(start_runtime: StartRuntime, bundles: BundleFactory) -> None:
    runtime = start_runtime(environment={"AWS_IOT_THING_NAME": "station-1"})
    activate(runtime, bundles.scale("1.0.0", 2.0))
    with pytest.raises(RefusedError):
        activate(runtime, bundles.scale("1.1.0", 3.0, files={"model.onnx": b"none"}))
    with Client(runtime.infer_socket) as client:
        for _ in range(10):
            client.infer("scale", {"x": ROW})
    assert runtime.admin.flush() == 1, "the last request may still be on its way into the next window"
    assert runtime.admin.status().outbox.queued_count >= 4
    assert runtime.terminate() == 0
    told = [message for message in messages(runtime.work / "outbox") if message.kind != "heartbeat"]
    assert {message.thing_name for message in told} == {"station-1"}
    outcomes = [message.body["outcome"] for message in told if message.kind == "activation"]
    assert outcomes == ["activated", "refused"]
    windows = [message.body for message in told if message.kind == "window"]
    assert sum(window["service"]["answered_count"] for window in windows) == 10


def messages(outbox: Path) -> list[Envelope]:
    """Every envelope in the segments, found by its JSON."""
    found = []
    for segment in sorted(outbox.glob("*.segment")):
        content = segment.read_bytes()
        at = content.find(b'{"body"')
        while at >= 0:
            document, length = json.JSONDecoder().raw_decode(content[at:].decode(errors="replace"))
            found.append(Envelope.read(document))
            at = content.find(b'{"body"', at + length)
    return found


def run_cli(capsys: pytest.CaptureFixture[str], runtime: RuntimeProcess, *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["--work", str(runtime.work), *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_tool_on_the_device(
    start_runtime: StartRuntime, bundles: BundleFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = start_runtime()
    code, out, _ = run_cli(capsys, runtime, "doctor")
    assert (code, json.loads(out)["ok"]) == (4, False), "no model serves yet"
    for minor in (0, 1):
        bundle = bundles.scale(f"1.{minor}.0", minor + 1.0)
        chosen = ("--component", bundle.component, "--version", bundle.version)
        code, out, _ = run_cli(capsys, runtime, "activate", bundle.archive, *chosen)
        assert (code, json.loads(out)["outcome"]) == (0, "activated")
    code, out, _ = run_cli(capsys, runtime, "predict", "scale", json.dumps({"x": ROW.tolist()}))
    assert (code, json.loads(out)["outputs"]["y"]) == (0, [[2.0, 4.0, 6.0]])
    _, out, _ = run_cli(capsys, runtime, "predict", "scale", '{"x": [[3e38, 2, 3]]}')
    assert json.loads(out, parse_constant=pytest.fail)["outputs"]["y"] == [[None, 4.0, 6.0]], "infinity is no JSON"
    assert run_cli(capsys, runtime, "revert", "scale")[0] == 0
    code, out, _ = run_cli(capsys, runtime, "models")
    assert [model["active"]["version"] for model in json.loads(out)] == ["1.0.0"]
    assert json.loads(run_cli(capsys, runtime, "doctor")[1])["ok"] is True
    code, _, err = run_cli(capsys, runtime, "predict", "scale", '{"x": [[1, 2]]}')
    assert (code, "x has shape" in err, "remedy:" in err) == (3, True, True)
    assert run_cli(capsys, runtime, "predict", "scale", "[1]")[0] == 3
    assert run_cli(capsys, runtime, "predict", "scale", "{")[0] == 3
    code, _, err = run_cli(capsys, runtime, "revert", "nobody")
    assert (code, "nobody" in err) == (3, True)
    assert run_cli(capsys, runtime, "deactivate", "scale")[0] == 0
    code, out, _ = run_cli(capsys, runtime, "lower-floor", COMPONENT)
    assert (code, json.loads(out)["outcome"]) == (0, "floor-lowered")
    code, _, err = run_cli(capsys, runtime, "lower-floor", COMPONENT)
    assert (code, "remedy:" in err) == (3, True)
    assert run_cli(capsys, runtime, "status")[0] == 0
    assert run_cli(capsys, runtime, "flush")[0] == 0
    runtime.kill()
    code, _, err = run_cli(capsys, runtime, "status")
    assert (code, "com.edgewright.Runtime" in err) == (5, True)
    assert json.loads(run_cli(capsys, runtime, "doctor")[1])["ok"] is False


def test_a_refusal_whose_words_are_a_files_is_told_however_long_they_are(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    """Written as escapes, this version takes twice as many bytes as a line may have."""
    runtime = start_runtime()
    odd = bundles.scale("1.0.0", 2.0, change=lambda manifest: replace(manifest, version="\U000e0001" * 15_000))
    with pytest.raises(ClientError) as caught:
        runtime.admin.activate(odd.archive, odd.component, "1.0.0")
    assert caught.value.code == "bundle-manifest"


def test_an_admin_line_that_is_no_command_is_answered(start_runtime: StartRuntime) -> None:
    runtime = start_runtime()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(runtime.work / "admin.sock"))
        lines = connection.makefile("rb")
        for line in (b"hello\n", b"{}\n", b'{"schema":"edgewright.command/1","command":"format-disk"}\n', b"[]\n"):
            connection.sendall(line)
            answer = json.loads(lines.readline())
            assert (answer["ok"], answer["code"]) == (False, "malformed-command")
        command = {"schema": "edgewright.command/1", "command": "activate", "request_id": "7", "deadline_ms": 5}
        connection.sendall(json.dumps({**command, "arguments": {"bundle": "/x"}}).encode() + b"\n")
        answer = json.loads(lines.readline())
        assert (answer["request_id"], answer["code"]) == ("7", "malformed-command")
        assert "component_name" in answer["message"]
        connection.sendall(b"x" * 70_000)
        assert json.loads(lines.readline())["ok"] is False
        assert lines.readline() == b""
    assert isinstance(runtime.admin.status().process_id, int)
    with pytest.raises(ClientError):
        runtime.admin.command("activate", {"bundle": 5})


def test_what_a_start_made_is_no_longer_the_garbage_collectors() -> None:
    child = (
        "import gc\n"
        "from edge_component.__main__ import spare_the_collector\n"
        "before = len(gc.get_objects())\n"
        "spare_the_collector()\n"
        "ring = []; ring.append(ring); del ring\n"
        "print(before, len(gc.get_objects()), gc.get_freeze_count(), gc.collect())\n"
    )
    told = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    before, still_looked_at, frozen, collected = map(int, told.stdout.split())
    assert frozen > before / 2
    assert still_looked_at < before / 100
    assert collected >= 1, "what comes later is collected as ever"


@pytest.mark.parametrize(("name", "is_folder"), [("staging", False), ("runtime.lock", True)])
def test_a_work_folder_that_cannot_be_used_is_told_with_the_path_and_where_to_look(
    tmp_path: Path, trust: Path, name: str, is_folder: bool
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / name).mkdir() if is_folder else (work / name).touch()
    command = [sys.executable, "-m", "edge_component", "--work", work, "--trust", trust, "--version", "1.0.0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    told = ended.stderr.splitlines()[-1]
    assert str(work / name) in told
    assert "edgewright-edge doctor" in told
