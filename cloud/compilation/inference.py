"""ONNX Runtime as compiling uses it: load by path, one request after the other, errors in one type.

It is not the runtime on the device, which has its own session code; here nothing is fast, and everything is the same on
every run: one thread, no spinning, the CPU provider alone.
"""

import os
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime phones home unless this is set before its import
os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)  # a model may not configure the session that judges it

import numpy as np
import onnxruntime

from cloud.compilation.errors import InvalidGraphError, SamplesError
from cloud.compilation.samples import Array, Samples

ERRORS_ONLY = 3


class Session:
    """A loaded graph. Not shared between threads."""

    def __init__(self, path: Path) -> None:
        """Load.

        Raises:
            InvalidGraphError: ONNX Runtime refuses it, in its own words.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = ERRORS_ONLY
        started = time.monotonic()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InvalidGraphError(f"ONNX Runtime does not load the model: {_first_line(error)}") from error
        self.load_ms = (time.monotonic() - started) * 1_000
        self.output_names: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())

    def answer(self, samples: Samples) -> dict[str, Array]:
        """Run every sample as a request of its own; outputs by name, axis 0 counting the samples.

        Raises:
            InvalidGraphError: a request fails.
            SamplesError: the samples' answers differ in shape, so that they cannot be kept in one array.
        """
        answers: list[list[Array]] = []
        for index, request in enumerate(samples.requests()):
            try:
                answers.append([np.asarray(output) for output in self._session.run(None, request)])
            except Exception as error:
                raise InvalidGraphError(f"the model fails on sample {index}: {_first_line(error)}") from error
        return {
            name: _stacked(name, [answer[column] for answer in answers])
            for column, name in enumerate(self.output_names)
        }


def _stacked(name: str, outputs: list[Array]) -> Array:
    shapes = sorted({output.shape for output in outputs})
    if len(shapes) > 1:
        raise SamplesError(
            f"the samples give output {name} different shapes ({shapes[0]} and {shapes[-1]})",
            "Give samples of one size.",
        )
    return np.stack(outputs)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
