"""A real model through the fast path: Silero VAD out of its wheel, its state carried by the client, number for number."""

import os
from pathlib import Path

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from edge_component.contracts.manifest import TensorSpec
from tests.edge_component.serving.conftest import Door

DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


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
