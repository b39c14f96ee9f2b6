"""``edgewright-edge`` as a person types it: what a model takes, slips of the keyboard, Ctrl-C, pipes that end, closed doors."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_component import cli
from edge_component.client import RefusedError
from edge_component.client.admin import AdminClient
from edge_component.contracts.manifest import TensorSpec
from edge_component.operators_command import leave_command
from tests.edge_component.bundle_factory import BundleFactory, npz, serialized
from tests.edge_component.runtime_process import RuntimeProcess
from tests.edge_component.test_cli_route import run, run_failing
from tests.edge_component.waiting import wait_until


@pytest.fixture
def runtime(start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory) -> RuntimeProcess:
    """Serving ``scale`` 1.0.0."""
    process = start_runtime(config={"probation_s": 0})
    bundle = bundles.scale("1.0.0", 2.0)
    process.admin.activate(bundle.archive, bundle.component, bundle.version)
    return process


def test_a_models_tensors_are_listed(runtime: RuntimeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert [model["active"]["name"] for model in run(runtime, capsys, "models")] == ["scale"]
    told = run(runtime, capsys, "models", "scale")
    assert told["active"]["version"] == "1.0.0"
    assert told["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 3]}]
    assert told["outputs"] == [{"name": "y", "dtype": "float32", "shape": [-1, 3]}]
    assert run_failing(runtime, capsys, "models", "nope")[0] == 3


def test_the_tensors_of_a_model_of_text_are_listed(
    runtime: RuntimeProcess, bundles: BundleFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the fast path, through which others are looked at, does not carry them."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in "xy")
    text = np.array([["heiß"]])
    bundle = bundles.scale(
        "1.0.0", 1.0, name="text", component="com.edgewright.model.Text",
        files={
            "model.onnx": serialized(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])),
            "golden.npz": npz(**{"input:x": text, "output:y": text}),
        },
        change=lambda manifest: replace(
            manifest, inputs=(TensorSpec("x", "string", (-1,)),), outputs=(TensorSpec("y", "string", (-1,)),)
        ),
    )  # fmt: skip
    runtime.admin.activate(bundle.archive, bundle.component, bundle.version)
    told = run(runtime, capsys, "models", "text")
    assert told["active"]["digest"] == bundle.digest
    assert told["inputs"] == [{"name": "x", "dtype": "string", "shape": [-1]}]
    assert told["outputs"] == [{"name": "y", "dtype": "string", "shape": [-1]}]
    assert "Open Inference Protocol" in run_failing(runtime, capsys, "predict", "text", '{"x": ["a"]}')[1]


def test_the_folder_may_be_named_behind_the_command(
    runtime: RuntimeProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["models", "--work", str(runtime.work)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["active"]["name"] == "scale"


@pytest.mark.parametrize("command", [["predict", "scale"], ["bench", "scale", "--count", "1", "--inputs"]])
@pytest.mark.parametrize(
    ("text", "told"),
    [("{x: 1}", "the inputs are no JSON"), ("[1]", "must be an object"), ("[" * 100_000, "the inputs are no JSON")],
    ids=["no JSON", "no object", "deeper than Python follows"],
)
def test_inputs_that_are_none_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], text: str, told: str
) -> None:
    assert cli.main(["--work", str(tmp_path), *command, text]) == 3
    assert told in capsys.readouterr().err


def test_a_device_without_the_command_finds_it_in_the_work_folder(
    start_runtime: Callable[..., RuntimeProcess], bundles: BundleFactory, tmp_path: Path
) -> None:
    work = tmp_path / "a work's folder"
    process = start_runtime(work)
    bundle = bundles.scale("1.0.0", 2.0)
    process.admin.activate(bundle.archive, bundle.component, bundle.version)

    def ask(*words: str) -> Any:
        asked = subprocess.run([command, *words], env={}, cwd="/", capture_output=True, timeout=60)
        assert asked.returncode == 0, asked.stderr
        return json.loads(asked.stdout)

    command = work / "edgewright-edge"
    assert ask("models")[0]["active"]["name"] == "scale"
    assert command.stat().st_mode & 0o777 == 0o700
    process.kill()
    command.write_text("of a version that is gone")
    start_runtime(work)
    assert ask("predict", "scale", '{"x": [[1, 2, 3]]}')["outputs"]["y"] == [[2, 4, 6]]


def test_a_disk_that_does_not_take_the_command_costs_the_command_alone(tmp_path: Path) -> None:
    leave_command(tmp_path / "nowhere")
    (tmp_path / "edgewright-edge").mkdir()
    leave_command(tmp_path)
    assert (tmp_path / "edgewright-edge").is_dir()


def command_of(work: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "edge_component.cli", "--work", str(work), *arguments]


def test_a_change_that_runs_out_of_time_is_refused_with_its_reason_and_not_just_late(
    runtime: RuntimeProcess, bundles: BundleFactory
) -> None:
    bundle = bundles.scale("1.1.0", 3.0)
    with pytest.raises(RefusedError) as caught:
        AdminClient(runtime.work / "admin.sock", timeout_s=0.02).activate(
            bundle.archive, bundle.component, bundle.version
        )
    assert caught.value.code in ("activation-deadline", "trial-timeout"), "whichever phase it was in"
    assert runtime.admin.status().models[0].active.version == "1.0.0"


@pytest.mark.parametrize("command", ["status", "models"])
def test_a_runtime_that_hangs_is_told_of_soon(
    runtime: RuntimeProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    allowed_s: list[float] = []

    class Admin(AdminClient):
        def __init__(self, path: Path, *, timeout_s: float = 60.0) -> None:
            allowed_s.append(timeout_s)
            super().__init__(path, timeout_s=0.1)

    monkeypatch.setattr(cli, "AdminClient", Admin)
    monkeypatch.setattr("edge_component.client.admin.VERDICT_S", 0.1)
    runtime.process.send_signal(signal.SIGSTOP)
    try:
        code, said = run_failing(runtime, capsys, command)
    finally:
        runtime.process.send_signal(signal.SIGCONT)
    assert (code, allowed_s) == (5, [cli.LOOK_S])
    assert "timed out" in said


def test_ctrl_c_ends_a_command_without_a_traceback(runtime: RuntimeProcess) -> None:
    process = subprocess.Popen(
        command_of(runtime.work, "bench", "scale", "--count", "1000000000"), stderr=subprocess.PIPE
    )
    wait_until(lambda: runtime.admin.status().models[0].answered_count > 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"")


def test_a_reader_that_has_read_enough_is_no_error(runtime: RuntimeProcess) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(command_of(runtime.work, "status"), stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_result_that_cannot_be_written_is_a_sentence(runtime: RuntimeProcess) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command_of(runtime.work, "status"), stdout=full, stderr=subprocess.PIPE, timeout=60)
    said = b"error: the result could not be written: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, said)


def test_what_the_doctor_found_wrong_is_said_last_with_its_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--work", str(tmp_path), "doctor"]) == 4
    written = capsys.readouterr()
    wrong = [check for check in json.loads(written.out)["checks"] if not check["ok"]]
    assert wrong
    assert written.err.splitlines() == [
        line
        for check in wrong
        for line in (f"{check['severity']}: {check['check']}: {check['found']}", f"remedy: {check['remedy']}")
    ]


def test_exit_codes_are_told_where_scripts_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    assert "4 the doctor found what stops this device" in " ".join(capsys.readouterr().out.split())
