"""The runtime as a process, through its real doors: restart, swap and kill under load, full disk, refusals to start."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_component import cli
from edge_component.client import Client, ClientError, DeadlineExceededError, RefusedError, UnavailableError
from edge_component.contracts.envelope import Envelope
from edge_component.contracts.manifest import TensorSpec
from tests.edge_component.bundle_factory import COMPONENT, Bundle, BundleFactory, npz, serialized
from tests.edge_component.observability.test_metrics_door import UnixHttp, get
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.serving.test_fastpath import wait_until
from tests.edge_component.small_disk import FILLER, fill_up, mounted
from tests.faults.evil_graphs import slow_on_large_values

StartRuntime = Callable[..., RuntimeProcess]
ROW = np.array([[1.0, 2.0, 3.0]], np.float32)


def activate(runtime: RuntimeProcess, bundle: Bundle) -> str:
    return runtime.admin.activate(bundle.archive, bundle.component, bundle.version).outcome


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


def rounds_model() -> dict[str, bytes]:
    """``y`` is ``x`` doubled as often as ``k`` says: files of a bundle."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Add", ["v", "v"], ["v2"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, [1]),
        ],
    )
    keep = helper.make_tensor("keep", TensorProto.BOOL, [], [True])
    inputs = [
        helper.make_tensor_value_info("k", TensorProto.INT64, []),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    loop = helper.make_node("Loop", ["k", "keep", "x"], ["y"], body=body)
    ones = np.ones((1, 1), np.float32)
    return {
        "model.onnx": serialized(helper.make_graph([loop], "rounds", inputs, outputs, [keep])),
        "golden.npz": npz(**{"input:k": np.array([2]), "input:x": ones, "output:y": ones * 4}),
    }


def test_a_run_that_outlives_the_stop_is_no_crash(start_runtime: StartRuntime, bundles: BundleFactory) -> None:
    runtime = start_runtime(config={"probation_s": 0, "stop_s": 0.1, "metrics_socket": True})
    specs = (TensorSpec("k", "int64", ()), TensorSpec("x", "float32", (1,)))
    bundle = bundles.scale(
        "1.0.0", 1.0, name="rounds", component="com.edgewright.model.Rounds", files=rounds_model(),
        change=lambda manifest: replace(manifest, inputs=specs, outputs=(TensorSpec("y", "float32", (1,)),)),
    )  # fmt: skip
    assert activate(runtime, bundle) == "activated"
    asked = {"k": np.array(2**62), "x": np.ones(1, np.float32)}

    def ask() -> None:
        with Client(runtime.infer_socket) as client, pytest.raises(ClientError):
            client.infer("rounds", asked, deadline_s=6.0)

    asking = threading.Thread(target=ask)
    asking.start()
    metrics = UnixHttp(runtime.work / "metrics.sock")
    wait_until(lambda: 'edgewright_requests_in_flight{model="rounds"} 1' in get(metrics)[2].decode())
    assert runtime.terminate() == 0
    asking.join()
    assert "terminate called" not in runtime.log_text()


class Load:
    """Clients that ask without a pause and keep what they were answered."""

    def __init__(self, socket_path: Path, clients_count: int) -> None:
        self.answered_count = [0] * clients_count
        self.versions: list[set[str]] = [set() for _ in range(clients_count)]
        self.failures: list[BaseException] = []
        self._socket_path = socket_path
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(index,)) for index in range(clients_count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, index: int) -> None:
        rng = np.random.default_rng(index)
        try:
            with Client(self._socket_path, deadline_s=30) as client:
                while not self._stop.is_set():
                    rows = rng.random((2, 3), np.float32)
                    answer = client.infer("scale", {"x": rows})
                    factor = np.float32(int(answer.model.version.split(".")[1]) + 1)
                    np.testing.assert_array_equal(answer.outputs["y"], rows * factor)
                    self.versions[index].add(answer.model.version)
                    self.answered_count[index] += 1
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            self.failures.append(error)

    def wait_for(self, more_count: int) -> None:
        """Until every client has been answered that many times more."""
        targets = [count + more_count for count in self.answered_count]
        ends_at_s = time.monotonic() + 30
        while any(count < target for count, target in zip(self.answered_count, targets, strict=True)):
            assert not self.failures, self.failures
            assert time.monotonic() < ends_at_s
            time.sleep(0.005)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures


@pytest.fixture
def load() -> Iterator[Callable[[Path, int], Load]]:
    started: list[Load] = []

    def start(socket_path: Path, clients_count: int) -> Load:
        started.append(Load(socket_path, clients_count))
        return started[-1]

    yield start
    for running in started:
        running._stop.set()


def test_swaps_under_load_answer_every_request_by_exactly_one_version(
    start_runtime: StartRuntime, bundles: BundleFactory, load: Callable[[Path, int], Load]
) -> None:
    runtime = start_runtime()
    activate(runtime, bundles.scale("1.0.0", 1.0))
    running = load(runtime.infer_socket, 3)
    for minor in range(1, 6):
        running.wait_for(20)
        assert activate(runtime, bundles.scale(f"1.{minor}.0", minor + 1.0)) == "activated"
    assert runtime.admin.revert("scale").outcome == "reverted"
    running.wait_for(20)
    running.stop()
    served = runtime.admin.status().models[0]
    assert (served.active.version, served.answered_count) == ("1.4.0", sum(running.answered_count))
    assert all(len(versions) >= 5 for versions in running.versions)


def test_kills_and_upgrades_under_load_are_slow_answers_at_most(
    start_runtime: StartRuntime, bundles: BundleFactory, load: Callable[[Path, int], Load]
) -> None:
    runtime = start_runtime(version="1.0.0")
    activate(runtime, bundles.scale("1.0.0", 1.0))
    running = load(runtime.infer_socket, 2)
    for stop in (runtime.kill, None):
        running.wait_for(20)
        if stop is None:
            assert runtime.terminate() == 0
        else:
            stop()
        runtime = start_runtime(runtime.work, version="1.1.0")
    running.wait_for(20)
    running.stop()


def test_a_full_disk_refuses_the_new_one_and_the_old_one_serves_on(
    start_runtime: StartRuntime, bundles: BundleFactory, tmp_path: Path
) -> None:
    with mounted(tmp_path / "work") as work:
        runtime = start_runtime(work)
        activate(runtime, bundles.scale("1.0.0", 1.0))
        with pytest.raises(RefusedError) as caught:
            activate(runtime, bundles.scale("1.1.0", 2.0, files={"notes.bin": os.urandom(700_000)}))
        assert caught.value.code == "store-full"
        runtime.kill()
        runtime = start_runtime(runtime.work)
        with Client(runtime.infer_socket) as client:
            assert client.infer("scale", {"x": ROW}).model.version == "1.0.0"
        assert activate(runtime, bundles.scale("1.1.1", 2.0)) == "activated", "a small one fits again"
        assert runtime.terminate() == 0


@pytest.mark.parametrize("probation_s", [0, 600], ids=["committed", "on probation"])
def test_on_a_full_disk_the_way_back_is_open(
    probation_s: int, start_runtime: StartRuntime, bundles: BundleFactory, tmp_path: Path
) -> None:
    config = {"probation_s": probation_s}
    with mounted(tmp_path / "work") as work:
        runtime = start_runtime(work, config=config)
        for minor in (0, 1):
            activate(runtime, bundles.scale(f"1.{minor}.0", minor + 1.0))
        fill_up(work)
        with pytest.raises(RefusedError) as caught:
            activate(runtime, bundles.scale("1.2.0", 3.0))
        assert caught.value.code == "store-full"
        assert runtime.admin.revert("scale").outcome == "reverted"
        fill_up(work)
        with Client(runtime.infer_socket) as client:
            assert client.infer("scale", {"x": ROW}).model.version == "1.0.0"
        for _ in range(12):
            runtime.admin.flush()  # a heartbeat each, to the end of the outbox's last page
        assert "not kept on its disk" in " ".join(runtime.admin.status().reasons)
        runtime.kill()
        runtime = start_runtime(work, config=config)
        assert [model.active.version for model in runtime.admin.status().models] == ["1.0.0"]
        if probation_s == 0:
            for version in ("1.1.0", "1.0.0"):
                assert runtime.admin.revert("scale").outcome == "reverted"
                assert [model.active.version for model in runtime.admin.status().models] == [version]
        assert runtime.admin.command("deactivate", {"model_name": "scale"})["outcome"] == "deactivated"
        (work / FILLER).unlink()
        assert activate(runtime, bundles.scale("1.3.0", 4.0)) == "activated"
        assert runtime.terminate() == 0


def test_a_disk_that_was_full_when_this_version_came_is_told_of_until_there_is_room_for_the_reserve(
    start_runtime: StartRuntime, bundles: BundleFactory, tmp_path: Path
) -> None:
    with mounted(tmp_path / "work") as work:
        runtime = start_runtime(work)
        for minor in (0, 1):
            activate(runtime, bundles.scale(f"1.{minor}.0", minor + 1.0))
        runtime.kill()
        for reserve in work.glob("*.reserve"):  # which versions before this one did not have
            reserve.unlink()
        fill_up(work)
        runtime = start_runtime(work)
        assert "activation.json has no reserve" in " ".join(runtime.admin.status().reasons)
        (work / FILLER).unlink()
        assert runtime.admin.revert("scale").outcome == "reverted"
        assert "has no reserve" not in " ".join(runtime.admin.status().reasons)
        fill_up(work)
        assert runtime.admin.command("deactivate", {"model_name": "scale"})["outcome"] == "deactivated"
        assert runtime.terminate() == 0


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


def test_requests_end_by_their_deadline_when_the_runtime_is_gone(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    runtime = start_runtime()
    activate(runtime, bundles.scale("1.0.0", 2.0))
    with Client(runtime.infer_socket, deadline_s=0.3) as client:
        client.infer("scale", {"x": ROW})
        runtime.kill()
        with pytest.raises(UnavailableError):
            client.infer("scale", {"x": ROW})


def test_a_refusal_whose_words_are_a_files_is_told_however_long_they_are(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    """Written as escapes, this version takes twice as many bytes as a line may have."""
    runtime = start_runtime()
    odd = bundles.scale("1.0.0", 2.0, change=lambda manifest: replace(manifest, version="\U000e0001" * 15_000))
    with pytest.raises(ClientError) as caught:
        runtime.admin.activate(odd.archive, odd.component, "1.0.0")
    assert caught.value.code == "bundle-manifest"


def test_runs_that_outlive_the_stop_make_it_no_crash(start_runtime: StartRuntime, bundles: BundleFactory) -> None:
    """They came back from ONNX Runtime into an interpreter that was gone, and the process was aborted."""
    runtime = start_runtime(config={"probation_s": 0, "stop_s": 0.1})
    bundle = bundles.scale("1.0.0", 2.0, files={"model.onnx": slow_on_large_values(1_000)})
    runtime.admin.activate(bundle.archive, bundle.component, bundle.version)

    def ask() -> None:
        with Client(runtime.infer_socket) as client, suppress(ClientError):
            client.infer("scale", {"x": ROW * 1e9}, deadline_s=2)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: thread_states(runtime.process.pid).count("R") >= 2)
    assert runtime.terminate() == 0
    for thread in threads:
        thread.join()


def thread_states(process_id: int) -> list[str]:
    """``R`` for one that computes, or would if it were let; ``T`` for one that was stopped."""
    stats = Path(f"/proc/{process_id}/task").glob("*/stat")
    return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]


def test_a_runtime_that_is_stopped_is_waited_for_by_the_deadline_and_answers_when_it_goes_on(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    """As by a debugger, a frozen control group or a suspended virtual machine."""
    runtime = start_runtime(config={"probation_s": 0})
    activate(runtime, bundles.scale("1.0.0", 2.0))
    with Client(runtime.infer_socket) as client, Client(runtime.infer_socket) as patient:
        for each in (client, patient):
            each.infer("scale", {"x": ROW})
        os.kill(runtime.process.pid, signal.SIGSTOP)
        wait_until(lambda: set(thread_states(runtime.process.pid)) == {"T"})
        answers: list[object] = []
        waiting = threading.Thread(target=lambda: answers.append(patient.infer("scale", {"x": ROW}, deadline_s=60)))
        waiting.start()
        for _ in range(3):  # on the connection that there is, and on ones that nobody accepts
            with pytest.raises((DeadlineExceededError, UnavailableError)):
                client.infer("scale", {"x": ROW}, deadline_s=0.2)
        os.kill(runtime.process.pid, signal.SIGCONT)
        np.testing.assert_array_equal(client.infer("scale", {"x": ROW}, deadline_s=60).outputs["y"], ROW * 2)
        waiting.join()
    assert len(answers) == 1


def test_an_admin_line_that_is_no_command_is_answered(start_runtime: StartRuntime) -> None:
    import socket

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
