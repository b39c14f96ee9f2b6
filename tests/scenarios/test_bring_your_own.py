"""Bring your own ONNX, as a user does: one command publishes Silero VAD, one deploys it, and a client asks it.

The numbers are held against ONNX Runtime on the file out of the wheel, a stream of sound long, the state carried over.
"""

from pathlib import Path

import numpy as np
import onnxruntime

from edge_component.client import Client
from tests.scenarios.installation import Installation, Station

CHUNK, CONTEXT, RATE_HZ = 512, 64, 16_000
CHUNK_COUNT = 40


def sound(count: int) -> np.ndarray:
    """Float32, shape (count, 1, 576): a voiced vowel that comes and goes, in chunks as the model takes them."""
    at_s = np.arange(count * CHUNK + CONTEXT) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 120 * harmonic * at_s) / harmonic for harmonic in range(1, 12))
    wave = (0.2 * voice * (np.sin(2 * np.pi * 1.5 * at_s) > 0)).astype(np.float32)
    return np.stack([wave[np.newaxis, start : start + CHUNK + CONTEXT] for start in range(0, count * CHUNK, CHUNK)])


def test_silero_vad_published_by_one_command_answers_on_a_device_as_onnx_runtime_does(
    installation: Installation, station: Station, silero_vad_onnx: Path, tmp_path: Path
) -> None:
    chunks = sound(CHUNK_COUNT)
    state = np.zeros((2, 1, 128), np.float32)
    samples = {
        "input:input": chunks[:8],
        "input:state": np.stack([state] * 8),
        "input:sr": np.full(8, RATE_HZ, np.int64),
    }
    np.savez(tmp_path / "requests.npz", **samples)

    published = installation.world.edgewright(
        "publish", "--onnx", str(silero_vad_onnx), "--samples", str(tmp_path / "requests.npz"),
        "--name", "silero-vad", "--version", "1.0.0",
    )  # fmt: skip
    station.deploy("1.0.0", "--wait", model="silero-vad")

    raw = onnxruntime.InferenceSession(silero_vad_onnx, providers=["CPUExecutionProvider"])
    expected_state, probabilities = state, []
    with Client(station.work / "infer.sock") as client:
        for chunk in chunks:
            rate = np.array(RATE_HZ, np.int64)
            expected, expected_state = raw.run(None, {"input": chunk, "state": expected_state, "sr": rate})
            answer = client.infer("silero-vad", {"input": chunk, "state": state, "sr": rate})
            np.testing.assert_allclose(answer.outputs["output"], expected, rtol=1e-5, atol=1e-6)
            state = answer.outputs["stateN"]
            probabilities.append(float(expected[0, 0]))
    assert max(probabilities) - min(probabilities) > 0.01, "sound that says nothing proves nothing"
    bundle = next(bundle for bundle in published["bundles"] if bundle["platform"] == installation.world.platform)
    assert answer.model.digest == bundle["digest"]
    assert station.ask().model.name == "linear", "the station's own model serves on beside it"
