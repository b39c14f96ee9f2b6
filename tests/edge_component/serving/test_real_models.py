"""A real model: Silero VAD out of its wheel, its state carried by the client or by the runtime, number for number."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from edge_component.clock import SystemClock
from edge_component.contracts.manifest import TensorSpec
from edge_component.contracts.routes import ModelRules, StatePair
from edge_component.inference.deadline import DeadlineWatch
from edge_component.inference.equipment import problem
from edge_component.inference.sequences import Sequences
from edge_component.inference.session import Session
from edge_component.inference.versions import Turn
from tests.edge_component.inference.test_session import MANIFEST
from tests.edge_component.serving.conftest import Door

DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


@pytest.fixture
def watch() -> Iterator[DeadlineWatch]:
    watch = DeadlineWatch(SystemClock())
    watch.start()
    yield watch
    watch.stop()


def specs(nodes: list[object]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, DTYPES[node.type], tuple(size if isinstance(size, int) else -1 for size in node.shape))  # type: ignore[attr-defined]
        for node in nodes
    )


def test_silero_vad_answers_as_onnx_runtime_does(door: Door, silero_vad_onnx: Path) -> None:
    direct = ort.InferenceSession(str(silero_vad_onnx))
    inputs, outputs = specs(direct.get_inputs()), specs(direct.get_outputs())
    door.put("1.0.0", silero_vad_onnx.read_bytes(), inputs, outputs, name="vad")
    client = door.client()
    rng = np.random.default_rng(0)
    state = expected_state = np.zeros((2, 1, 128), np.float32)
    for _ in range(20):
        sound = rng.standard_normal((1, 576)).astype(np.float32) * 0.1
        given = {"input": sound, "state": state, "sr": np.array(16_000, np.int64)}
        answer = client.infer("vad", given).outputs
        expected = dict(
            zip(
                [spec.name for spec in outputs],
                direct.run(None, {**given, "state": expected_state}),
                strict=True,
            )
        )
        for name, array in expected.items():
            np.testing.assert_array_equal(answer[name], array)
        state, expected_state = answer["stateN"], expected["stateN"]


def test_the_runtime_carries_the_state_of_each_stream_of_silero_vad(
    silero_vad_onnx: Path, watch: DeadlineWatch
) -> None:
    direct = ort.InferenceSession(str(silero_vad_onnx))
    manifest = replace(MANIFEST, inputs=specs(direct.get_inputs()), outputs=specs(direct.get_outputs()))
    pairs = (StatePair("state", "stateN"),)
    assert problem(manifest, ModelRules(states=pairs)) == ""
    sequences = Sequences(Session.load(silero_vad_onnx, manifest), pairs)
    rate, leash, rng = np.array(16_000, np.int64), watch.leash(), np.random.default_rng(0)
    expected = {stream: np.zeros((2, 1, 128), np.float32) for stream in ("left", "right")}
    for _ in range(20):
        for stream, state in expected.items():
            sound = rng.standard_normal((1, 576)).astype(np.float32) * 0.1
            answer = sequences.run({"input": sound, "sr": rate}, leash, 10, Turn(stream))
            speech, expected[stream] = direct.run(["output", "stateN"], {"input": sound, "sr": rate, "state": state})
            assert set(answer) == {"output"}
            np.testing.assert_array_equal(answer["output"], speech)
