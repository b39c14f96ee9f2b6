"""ONNX Runtime as compiling uses it: load by path, one request after the other, errors in one type.

It is not the runtime on the device, which has its own session code; here nothing is fast, and everything is the same on
every run: one thread, no spinning, the CPU provider alone. numpy has no bfloat16: arrays of it hold the sixteen bits.
"""

import ctypes
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime phones home unless this is set before its import
os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)  # a model may not configure the session that judges it

import numpy as np
import onnxruntime

from cloud.compilation.errors import InvalidGraphError, SamplesError
from cloud.compilation.samples import Array, Samples

FATAL_ONLY = 4  # what goes wrong is told as an exception, not on standard error
RUN_S_MAX = 60.0
"""Of one request: what a device allows one that names no deadline."""
BFLOAT16 = "tensor(bfloat16)"
ONNX_BFLOAT16 = 16
"""``TensorProto.BFLOAT16``."""


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
        options.log_severity_level = FATAL_ONLY
        started = time.monotonic()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            words = _first_line(error).replace(str(path), path.name)
            raise InvalidGraphError(f"ONNX Runtime does not load the model: {words}", _remedy(words)) from error
        self.load_ms = (time.monotonic() - started) * 1_000
        self.output_names: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())
        self._bits_in = frozenset(given.name for given in self._session.get_inputs() if given.type == BFLOAT16)
        self._bits_out = frozenset(made.name for made in self._session.get_outputs() if made.type == BFLOAT16)

    def answer(self, samples: Samples) -> dict[str, Array]:
        """Run every sample as a request of its own; outputs by name, axis 0 counting the samples.

        Raises:
            InvalidGraphError: a request fails, or takes longer than ``RUN_S_MAX``.
            SamplesError: the samples' answers differ in shape, so that they cannot be kept in one array.
        """
        answers: list[list[Array]] = []
        for index, request in enumerate(samples.requests()):
            options = onnxruntime.RunOptions()
            try:
                with _stopping(options):
                    answers.append(self._run(request, options))
            except Exception as error:
                if options.terminate:
                    raise InvalidGraphError(
                        f"the model takes longer than {RUN_S_MAX:g} s for sample {index}",
                        "A device stops it then too: give smaller samples, or see whether a Loop ends.",
                    ) from error
                raise InvalidGraphError(
                    f"the model fails on sample {index}: {_first_line(error)}",
                    "Ask it the same with onnxruntime; a sample may be of a size that the graph does not take.",
                ) from error
        return {
            name: _stacked(name, [answer[column] for answer in answers])
            for column, name in enumerate(self.output_names)
        }

    def numbers(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs as gates compare them: bits of bfloat16 as the numbers that they are, the upper half of a float32."""
        return {
            name: (array.astype(np.uint32) << np.uint32(16)).view(np.float32) if name in self._bits_out else array
            for name, array in outputs.items()
        }

    def _run(self, request: Mapping[str, Array], options: Any) -> list[Array]:  # noqa: ANN401 - onnxruntime ships no types
        if not self._bits_in and not self._bits_out:
            return [np.asarray(output) for output in self._session.run(None, request, options)]
        values = {name: _as_value(array, is_bits=name in self._bits_in) for name, array in request.items()}
        made = self._session.run_with_ort_values(self.output_names, values, options)
        return [_as_array(value) for value in made]


@contextmanager
def _stopping(options: Any) -> Iterator[None]:  # noqa: ANN401 - as above
    """Ends a run that takes too long: nothing else would, and Ctrl-C waits for ONNX Runtime."""
    timer = threading.Timer(RUN_S_MAX, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _as_value(array: Array, *, is_bits: bool) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    if is_bits:
        bits = np.ascontiguousarray(array).reshape(array.shape)  # which makes a vector of a scalar
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, ONNX_BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _as_array(value: Any) -> Array:  # noqa: ANN401 - as above
    if value.data_type() != BFLOAT16:
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    bits = ctypes.string_at(value.data_ptr(), 2 * prod(shape)) if prod(shape) else b""
    return np.frombuffer(bits, np.uint16).reshape(shape)


def _remedy(words: str) -> str:
    """Against what ONNX Runtime says when it does not load a model."""
    if "locale" in words:
        return (
            "Install that locale here and on each device, or give the graph's StringNormalizer the locale 'C', which "
            "needs none and changes no letter beyond ASCII (skl2onnx: options={TfidfVectorizer: {'locale': 'C'}})."
        )
    if "NOT_IMPLEMENTED" in words:
        return "ONNX Runtime has no code for that operator with these types on a CPU: export the model in float32."
    if "Type Error" in words:
        return "Its exporter mixed up types, as skl2onnx does where inputs are doubles: export it with float32 inputs."
    return f"Try it with onnxruntime {onnxruntime.__version__} on a CPU."


def _stacked(name: str, outputs: list[Array]) -> Array:
    shapes = sorted({output.shape for output in outputs})
    if len(shapes) > 1:
        raise SamplesError(
            f"the samples give output {name} different shapes ({shapes[0]} and {shapes[-1]})",
            "Give samples whose answers are of one size, or a single one: where values decide the size, they must agree.",
        )
    return np.stack(outputs)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
