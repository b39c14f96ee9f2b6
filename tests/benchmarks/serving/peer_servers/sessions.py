"""What every peer serves: one session for each model, one thread, spinning off, like ours. Runs in a peer's environment."""

import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def load(folder):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return {
        path.stem: ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for path in Path(folder).glob("*.onnx")
    }


def run(session, inputs):
    """Lists in, lists out."""
    nodes = {node.name: node for node in session.get_inputs()}
    feed = {
        name: np.asarray(value, DTYPES[nodes[name].type]).reshape(() if nodes[name].shape == [] else np.shape(value))
        for name, value in inputs.items()
    }
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))
