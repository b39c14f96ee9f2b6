"""The demo keeps its promises, seen from the outside: one run of the command, then its summary alone is believed."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("skl2onnx", reason="the weather example needs the [training] extra")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RUN_TIMEOUT_S = 540
THINGS = {"station-ewr", "station-jfk", "station-lga"}
RETRAINED, BAD = "1.1.0", "1.2.0"


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("demo")
    path = folder / "summary.json"
    command = [sys.executable, "-m", "simulator.cli", "demo", "--exit", "--summary", str(path)]
    demo = subprocess.Popen(
        [*command, "--folder", str(folder / "world")],
        env={**os.environ, "COLUMNS": "200"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        told, _ = demo.communicate(timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        demo.terminate()  # it ends what it started
        told, _ = demo.communicate()
    assert demo.returncode == 0, told[-4000:]
    return json.loads(path.read_bytes())


def test_every_prediction_was_answered_through_every_model_change(summary: Any) -> None:
    assert summary["predictions"]["answered"] > 10_000
    assert summary["predictions"]["failed"] == 0


def test_each_device_kept_one_runtime_process_and_serves_the_retrained_model(summary: Any) -> None:
    devices = {device["thing_name"]: device for device in summary["devices"]}
    assert set(devices) == THINGS
    assert {name: len(device["runtime_process_ids"]) for name, device in devices.items()} == dict.fromkeys(THINGS, 1)
    assert len({device["runtime_process_ids"][0] for device in devices.values()}) == len(THINGS)
    served = [device["serving"] for device in devices.values()]
    assert served == [{"model": "weather", "version": RETRAINED}] * len(THINGS)


def test_the_windows_that_drifted_are_named_with_their_reason(summary: Any) -> None:
    retrain = [found for found in summary["drift"] if found["decision"] == "retrain"]
    assert retrain
    assert {found["thing_name"] for found in summary["drift"]} == THINGS
    assert all(found["window"] and found["sentence"] for found in summary["drift"])


def test_retraining_made_a_better_model_on_the_same_held_out_stretch(summary: Any) -> None:
    retrain = summary["retrain"]
    assert retrain["training_job_arn"].startswith("arn:aws:sagemaker:us-east-1:123456789012:training-job/")
    assert (retrain["version"], bool(retrain["metric"])) == (RETRAINED, True)
    assert 0 < retrain["after"] < retrain["before"]


def test_the_bad_version_was_refused_on_the_device_for_its_golden_answers(summary: Any) -> None:
    assert [refusal["version"] for refusal in summary["refused"]] == [BAD]
    (refusal,) = summary["refused"]
    assert refusal["thing_name"] == "station-ewr"
    assert "golden-mismatch" in refusal["reason"]
    assert f"weather {RETRAINED} serves" in refusal["reason"]


def test_the_time_of_each_phase_is_told(summary: Any) -> None:
    phases = ["start", "set_up", "train", "compile", "publish", "deploy", "retrain", "refuse", "finish"]
    assert [name for name in phases if summary["phases_s"].get(name, 0) <= 0] == []
