"""The hand-over as Greengrass does it: the real script, as a process, against the real runtime."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_component.contracts import handover
from tests.edge_component.bundle_factory import Bundle, BundleFactory, new_key, scale_model
from tests.edge_component.runtime_process import RuntimeProcess

StartRuntime = Callable[..., RuntimeProcess]


def start_script(
    work: Path, bundle: Bundle, *, timeout_s: float = 30.0, notify_socket: Path | None = None, deactivate: str = ""
) -> "subprocess.Popen[str]":
    """As the recipe starts it, copied out of the package, without anything of ours on its path."""
    script = work.parent / "activate.py"
    script.write_bytes(Path(handover.__file__).read_bytes())
    environment = {"PATH": os.environ["PATH"]}
    if notify_socket is not None:
        environment["NOTIFY_SOCKET"] = str(notify_socket)
    command = [sys.executable, "-I", str(script), "--socket", str(work / "admin.sock")]
    command += ["--deactivate", deactivate] if deactivate else ["--bundle", str(bundle.archive)]
    command += ["--component", bundle.component, "--version", bundle.version]
    return subprocess.Popen(
        [*command, "--timeout-s", str(timeout_s), "--notify"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def hand_over(
    work: Path, bundle: Bundle, *, timeout_s: float = 30.0, notify_socket: Path | None = None, deactivate: str = ""
) -> tuple[int, str]:
    process = start_script(work, bundle, timeout_s=timeout_s, notify_socket=notify_socket, deactivate=deactivate)
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def test_it_waits_for_a_runtime_that_is_not_yet_listening(start_runtime: StartRuntime, bundles: BundleFactory,
                                                         tmp_path: Path) -> None:  # fmt: skip
    bundle = bundles.scale("1.0.0", 2.0)
    (tmp_path / "work").mkdir()
    script = start_script(tmp_path / "work", bundle)
    runtime = start_runtime(tmp_path / "work")
    out, err = script.communicate(timeout=60)
    assert (script.returncode, err) == (0, "")
    assert "1.0.0 activated" in out
    assert [model.active.version for model in runtime.admin.status().models] == ["1.0.0"]


def test_a_second_time_it_is_already_active_even_after_a_reboot(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    runtime = start_runtime()
    bundle = bundles.scale("1.0.0", 2.0)
    assert hand_over(runtime.work, bundle)[0] == 0
    code, said = hand_over(runtime.work, bundle)
    assert (code, "already-active" in said) == (0, True)
    runtime.kill()
    start_runtime(runtime.work)
    code, said = hand_over(runtime.work, bundle)
    assert (code, "already-active" in said) == (0, True)


def test_its_exit_code_is_the_verdict_and_only_success_is_announced(
    start_runtime: StartRuntime, bundles: BundleFactory, tmp_path: Path
) -> None:
    runtime = start_runtime()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(5)
        good = bundles.scale("1.0.0", 2.0)
        assert hand_over(runtime.work, good, notify_socket=tmp_path / "notify")[0] == 0
        assert notified.recv(100) == b"READY=1"
        for bad, code in (
            (bundles.scale("1.1.0", 3.0, key=new_key()), "bundle-untrusted-key"),
            (bundles.scale("1.1.0", 3.0, files={"model.onnx": b"no model"}), "model-unloadable"),
            (bundles.scale("1.1.0", 3.0, files={"model.onnx": scale_model(float("nan"))}), "golden-not-finite"),
        ):
            exit_code, said = hand_over(runtime.work, bad, notify_socket=tmp_path / "notify")
            assert (exit_code, code in said) == (1, True), said
            assert f"({code}): " in said
            assert re.search(r"[^.]\. [A-Z]", said.partition("): ")[2]), "the message and the remedy are two sentences"
        notified.setblocking(False)
        with pytest.raises(BlockingIOError):
            notified.recv(100)
    assert [model.active.version for model in runtime.admin.status().models] == ["1.0.0"]


def test_success_is_announced_on_an_abstract_socket_too_and_a_dead_one_is_no_failure(
    tmp_path: Path, bundles: BundleFactory
) -> None:
    (tmp_path / "work").mkdir()
    runtime = answering(tmp_path / "work", ["", ""])
    bundle = bundles.scale("1.0.0", 2.0)
    name = f"edgewright-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind("\0" + name)
        notified.settimeout(5)
        assert hand_over(tmp_path / "work", bundle, notify_socket=Path(f"@{name}"))[0] == 0
        assert notified.recv(100) == b"READY=1"
    code, said = hand_over(tmp_path / "work", bundle, notify_socket=tmp_path / "nobody")
    assert (code, "systemd could not be told" in said, "Traceback" in said) == (0, True, False)
    runtime.join(30)


def test_a_nucleus_that_rolls_back_hands_the_version_before_over_again(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    runtime = start_runtime(config={"probation_s": 0})
    old, new = bundles.scale("1.0.0", 2.0), bundles.scale("1.1.0", 3.0)
    for bundle in (old, new, old):
        code, said = hand_over(runtime.work, bundle)
        assert (code, f"{bundle.version} activated" in said) == (0, True), said
    runtime.kill()
    runtime = start_runtime(runtime.work, config={"probation_s": 0})
    code, said = hand_over(runtime.work, old)
    assert (code, "already-active" in said) == (0, True), "what came back is what the next start serves"
    assert hand_over(runtime.work, bundles.scale("1.0.1", 4.0))[0] == 1


def test_a_model_is_let_go_once_and_gone_is_a_success_ever_after(
    start_runtime: StartRuntime, bundles: BundleFactory, tmp_path: Path
) -> None:
    at_once = {"probation_s": 0}
    runtime, retired = start_runtime(config=at_once), bundles.scale("1.1.0", 2.0)
    assert hand_over(runtime.work, retired)[0] == 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(5)
        for outcome in ("deactivated", "already-gone", "already-gone"):
            code, said = hand_over(runtime.work, retired, notify_socket=tmp_path / "notify", deactivate="scale")
            assert (code, said) == (0, f"edgewright: {retired.component} 1.1.0 {outcome}\n")
            assert notified.recv(100) == b"READY=1"
            runtime.kill()
            runtime = start_runtime(runtime.work, config=at_once)
    assert runtime.admin.status().models == ()
    code, said = hand_over(runtime.work, bundles.scale("1.0.0", 9.0))
    assert (code, "older-release" in said) == (1, True), "the floor has survived, and reboots with it"
    assert hand_over(runtime.work, retired)[0] == 0, "the version that was retired may come back"


def test_a_retired_component_never_touches_what_another_has_brought(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    runtime = start_runtime()
    assert hand_over(runtime.work, bundles.scale("1.0.0", 2.0))[0] == 0
    former = bundles.scale("1.1.0", 3.0, component="com.edgewright.model.Former")
    code, said = hand_over(runtime.work, former, deactivate="scale")
    assert (code, "already-gone" in said) == (0, True)
    assert [model.active.version for model in runtime.admin.status().models] == ["1.0.0"]


def test_without_a_runtime_it_ends_by_its_deadline_and_says_what_is_missing(
    tmp_path: Path, bundles: BundleFactory
) -> None:
    (tmp_path / "work").mkdir()
    code, said = hand_over(tmp_path / "work", bundles.scale("1.0.0", 2.0), timeout_s=0.5)
    assert (code, "com.edgewright.Runtime" in said) == (2, True)


def test_a_runtime_upgrade_under_an_unchanged_model_needs_no_hand_over(
    start_runtime: StartRuntime, bundles: BundleFactory
) -> None:
    runtime = start_runtime(version="1.0.0")
    assert hand_over(runtime.work, bundles.scale("1.0.0", 2.0))[0] == 0
    assert runtime.terminate() == 0
    upgraded = start_runtime(runtime.work, version="1.1.0")
    status = upgraded.admin.status()
    assert (status.runtime_version, [model.active.version for model in status.models]) == ("1.1.0", ["1.0.0"])


def test_a_work_folder_deeper_than_a_socket_address_is_long(
    start_runtime: StartRuntime, bundles: BundleFactory, tmp_path: Path
) -> None:
    runtime = start_runtime(tmp_path / ("d" * 60) / ("e" * 60) / "work")
    assert len(str(runtime.work / "admin.sock")) > 107
    assert hand_over(runtime.work, bundles.scale("1.0.0", 2.0))[0] == 0


def answering(folder: Path, codes: list[str]) -> "threading.Thread":
    """A runtime that answers one connection after the other with these codes; an empty one is success."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(folder / "admin.sock"))
    listening.listen()

    def serve() -> None:
        for code in codes:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as lines:
                lines.readline()
                connection.sendall(json.dumps({"ok": not code, "code": code, "result": {}}).encode() + b"\n")
        listening.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_busy_runtime_is_asked_again(tmp_path: Path, bundles: BundleFactory) -> None:
    (tmp_path / "work").mkdir()
    runtime = answering(tmp_path / "work", ["busy", "busy", ""])
    assert hand_over(tmp_path / "work", bundles.scale("1.0.0", 2.0))[0] == 0
    runtime.join(30)
