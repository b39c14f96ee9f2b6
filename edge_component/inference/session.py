"""One ONNX Runtime session, held to what its manifest promises.

The failures this exists for: a graph whose tensors are not what the manifest says; a session that burns a core while
idle (spinning is off: 3 % instead of 103 % for two threads at 50 Hz, measured); a runtime that phones home
(``ORT_DISABLE_TELEMETRY`` must be set *before* the import: ORT 1.29 and later write to the home folder otherwise); and
big-endian arrays, which ORT reads as garbage without a word.

It runs what it is given; which session serves is the router's business, shared memory that of serving/. Sessions may be
run from any number of threads at once (measured: 0 mismatches over 4 threads).
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)

import ctypes
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge_component.contracts.fastpath import shape_problem
from edge_component.contracts.manifest import Manifest, TensorSpec
from edge_component.errors import SignatureMismatchError, UnloadableModelError, UnsupportedTensorError
from edge_component.inference.errors import (
    InputNameError,
    InputNanError,
    InputShapeError,
    InputTypeError,
    OutputMismatchError,
    RunFailedError,
)
from edge_component.inference.execution import SessionOptions, choose_providers

Array = NDArray[np.generic]
Tensors = Mapping[str, Array]

_ORT_DTYPES: Mapping[str, str] = {
    "tensor(float16)": "float16", "tensor(float)": "float32", "tensor(double)": "float64", "tensor(bool)": "bool",
    "tensor(bfloat16)": "bfloat16", "tensor(string)": "string",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
}  # fmt: skip
STAND_INS: Mapping[str, str] = {"string": "object", "bfloat16": "uint16"}
"""Dtypes that numpy has not, and what stands in for them here: objects that are ``str``, and the sixteen bits."""


def tensor_dtype(dtype: str) -> np.dtype[Any]:
    """What arrays of a manifest's dtype are made of in this process."""
    return np.dtype(STAND_INS.get(dtype, dtype))


class Session:
    """A loaded graph with the inputs and outputs of its manifest.

    Attributes:
        inputs, outputs: as the manifest lists them.
        nan_policy: ``accept`` or ``refuse``.
        ort_session: ONNX Runtime's own, for bindings.
        fallbacks: one sentence for each execution provider that was preferred and is not what computes.
        has_bfloat16: some input or output is of that type, whose arrays hold bits rather than numbers.
    """

    def __init__(self, ort_session: Any, manifest: Manifest, fallbacks: tuple[str, ...] = ()) -> None:  # noqa: ANN401 - onnxruntime ships no types
        """Use :meth:`load`."""
        self.fallbacks = fallbacks
        self.ort_session = ort_session
        self.inputs = manifest.inputs
        self.outputs = manifest.outputs
        self.nan_policy = manifest.nan_policy
        self._dtypes = {spec.name: tensor_dtype(spec.dtype) for spec in manifest.inputs}
        self._output_names = [spec.name for spec in manifest.outputs]
        self._compute = _entry_of(ort_session)
        self._shapes_tell_all = manifest.nan_policy != "refuse" and all(s.dtype != "string" for s in manifest.inputs)
        self._last: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...] | None = None
        self.has_bfloat16 = any(spec.dtype == "bfloat16" for spec in (*self.inputs, *self.outputs))

    @classmethod
    def load(cls, model_path: Path, manifest: Manifest, options: SessionOptions | None = None) -> Self:
        """Load by path and compare with the manifest.

        Raises:
            UnloadableModelError: ONNX Runtime refuses the file.
            SignatureMismatchError: other inputs or outputs than the manifest says.
            UnsupportedTensorError: strings beside bfloat16, for which ONNX Runtime's Python layer has no way; an output
                that is listed twice, which ONNX Runtime allows and no answer by name can hold.
        """
        if len({spec.name for spec in manifest.outputs}) < len(manifest.outputs):
            raise UnsupportedTensorError(
                "a model that lists an output twice cannot be served", "Publish it with each output once."
            )
        if {"string", "bfloat16"} <= {spec.dtype for spec in (*manifest.inputs, *manifest.outputs)}:
            raise UnsupportedTensorError("a model with both string and bfloat16 tensors cannot be served")
        loaded, fallbacks = _load_on_the_best(model_path, options or SessionOptions())
        _check_signature(manifest.inputs, loaded.get_inputs(), "input")
        _check_signature(manifest.outputs, loaded.get_outputs(), "output")
        return cls(loaded, manifest, fallbacks)

    def run(self, inputs: Mapping[str, Array], options: Any = None) -> dict[str, Array]:  # noqa: ANN401 - as above
        """Check the inputs and compute, with ONNX Runtime's run options if there are any; outputs by name.

        Raises:
            RequestError: the leaf says whose fault it is and names the tensor.
        """
        feed = inputs if self._is_like_the_last(inputs) else self.checked(inputs)
        try:
            arrays = (self._run_values if self.has_bfloat16 else self._run_arrays)(feed, options)
        except Exception as error:  # as in load
            raise RunFailedError(f"ONNX Runtime failed in mid-run: {_first_line(error)}") from error
        outputs = dict(zip(self._output_names, arrays, strict=True))
        check_outputs(self.outputs, outputs)
        return outputs

    def _is_like_the_last(self, inputs: Mapping[str, Array]) -> bool:
        """Whether these are of exactly the dtypes and shapes that were found right the last time: then so are they."""
        last = self._last
        if last is None or type(inputs) is not dict or len(inputs) != len(last):
            return False
        for name, dtype, shape in last:
            array = inputs.get(name)
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return False
            if not array.flags.c_contiguous:
                return False
        return True

    def _run_arrays(self, feed: Mapping[str, Array], options: Any) -> list[Array]:  # noqa: ANN401 - as above
        arrays: list[Array] = self._compute(self._output_names, feed, options)
        return arrays

    def _run_values(self, feed: Mapping[str, Array], options: Any) -> list[Array]:  # noqa: ANN401 - as above
        """The way round numpy, for types that it has not."""
        values = {spec.name: _as_value(spec, feed[spec.name]) for spec in self.inputs}
        return [
            _as_array(spec, value)
            for spec, value in zip(
                self.outputs, self.ort_session.run_with_ort_values(self._output_names, values, options), strict=True
            )
        ]

    def checked(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs as ORT may see them: exactly the model's names, dtypes and shapes, native byte order.

        Raises:
            InputNameError, InputTypeError, InputShapeError, InputNanError: naming the tensor.
        """
        if inputs.keys() != self._dtypes.keys():
            raise InputNameError(f"the model takes {sorted(self._dtypes)}, not {sorted(inputs)}")
        feed = {spec.name: self._checked_one(spec, inputs[spec.name]) for spec in self.inputs}
        if self._shapes_tell_all:
            self._last = tuple((name, array.dtype, array.shape) for name, array in feed.items())
        return feed

    def _checked_one(self, spec: TensorSpec, array: Array) -> Array:
        dtype = self._dtypes[spec.name]
        if spec.dtype == "string":
            array = _as_texts(spec, array)
        if array.dtype.newbyteorder("=") != dtype:
            raise InputTypeError(f"{spec.name} has dtype {array.dtype}, the model takes {dtype}")
        problem = shape_problem(spec, array.shape)
        if problem:
            raise InputShapeError(problem)
        native: Array = np.ascontiguousarray(array, dtype).reshape(array.shape)
        if self.nan_policy == "refuse":
            refuse_nan(spec, native)
        return native


def _entry_of(ort_session: Any) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """ONNX Runtime's C++ entry where it is to be found; its public method looks again at names that were checked here."""
    return getattr(getattr(ort_session, "_sess", None), "run", None) or ort_session.run


def widened(bits: Array) -> NDArray[np.float32]:
    """The numbers that bfloat16 bits stand for: bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def refuse_nan(spec: TensorSpec, array: Array) -> None:
    """Raise InputNanError if a float tensor holds NaN."""
    floats = widened(array) if spec.dtype == "bfloat16" else array
    if floats.dtype.kind == "f" and bool(np.isnan(floats).any()):
        raise InputNanError(f"{spec.name} holds NaN, which this model refuses")


def check_outputs(specs: Sequence[TensorSpec], outputs: Mapping[str, object]) -> None:
    """Raise OutputMismatchError if an output is not of the dtype and shape that the manifest promises."""
    for spec in specs:
        array = outputs[spec.name]
        if (
            not isinstance(array, np.ndarray)
            or array.dtype != tensor_dtype(spec.dtype)
            or shape_problem(spec, array.shape)
        ):
            found = f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            raise OutputMismatchError(
                f"output {spec.name} came out as {found}, the manifest promises {spec.dtype}{list(spec.shape)}"
            )


_ONNX_BFLOAT16 = 16
"""``TensorProto.BFLOAT16``."""


def _as_value(spec: TensorSpec, array: Array) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    if spec.dtype == "bfloat16":
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def _as_array(spec: TensorSpec, value: Any) -> Array:  # noqa: ANN401 - as above
    if spec.dtype != "bfloat16":
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    copied = ctypes.string_at(value.data_ptr(), 2 * prod(shape)) if prod(shape) else b""
    return np.frombuffer(copied, np.uint16).reshape(shape)


def _as_texts(spec: TensorSpec, array: Array) -> Array:
    """Text, and nothing that ONNX Runtime would turn into text in its own way (``b'a'`` for bytes)."""
    texts: Array = array.astype(object) if array.dtype.kind == "U" else array
    if texts.dtype.kind != "O" or not all(isinstance(text, str) for text in texts.flat):
        raise InputTypeError(f"{spec.name} must hold str; it has dtype {array.dtype}", "Decode bytes to text first.")
    return texts


def _load_on_the_best(model_path: Path, options: SessionOptions) -> tuple[Any, tuple[str, ...]]:
    """A session on the first provider that takes the model, and why it is not on an earlier one.

    ONNX Runtime's own fall-back is switched off: it prints to standard output, and keeps no reason.
    """
    providers = choose_providers(options.providers, ort.get_available_providers())
    reasons = list(providers.reasons)
    for index, provider in enumerate(providers.chosen):
        left = list(providers.chosen[index:])
        try:
            session = ort.InferenceSession(str(model_path), _ort_options(options), providers=left, enable_fallback=0)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes from C++
            if provider == providers.chosen[-1]:
                raise UnloadableModelError(
                    f"ONNX Runtime {ort.__version__} refuses it: {_first_line(error)}"
                ) from error
            reasons.append(f"{provider} does not take it: {_first_line(error)}")
        else:
            if provider not in session.get_providers():
                reasons.append(f"{provider} is in this build, and could not be used")
            return session, tuple(reasons)
    raise AssertionError("the CPU is always among the providers")


def _ort_options(options: SessionOptions) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = options.intra_op_threads
    chosen.inter_op_num_threads = options.inter_op_threads
    parallel = options.inter_op_threads > 1
    chosen.execution_mode = ort.ExecutionMode.ORT_PARALLEL if parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    chosen.log_severity_level = 4  # its printing goes past our log, partly to standard output
    for pool in ("intra_op", "inter_op"):
        chosen.add_session_config_entry(f"session.{pool}.allow_spinning", "1" if options.spinning else "0")
    return chosen


def _check_signature(promised: Sequence[TensorSpec], found: Sequence[Any], role: str) -> None:
    """Names and types; of inputs the shapes too.

    What a file declares of its outputs' shapes, its exporter may have made up (of tree ensembles, they do), and what ONNX
    Runtime infers can be wrong as well: the golden test and each run compare what truly comes out.
    """
    if [spec.name for spec in promised] != [node.name for node in found]:
        raise SignatureMismatchError(
            f"the graph's {role}s are {[node.name for node in found]}, "
            f"the manifest promises {[spec.name for spec in promised]}"
        )
    for spec, node in zip(promised, found, strict=True):
        dtype = _ORT_DTYPES.get(node.type, node.type)
        if dtype != spec.dtype or (role == "input" and not _shapes_agree(spec.shape, node.shape)):
            raise SignatureMismatchError(
                f"{role} {spec.name} is {dtype}{node.shape} in the graph, "
                f"the manifest promises {spec.dtype}{list(spec.shape)}"
            )


def _shapes_agree(promised: Sequence[int], found: Sequence[int | str | None] | None) -> bool:
    """A dimension that the graph fixes must be promised; where it is symbolic or unknown, the promise may be either."""
    if found is None:
        return True
    return len(promised) == len(found) and all(
        not isinstance(actual, int) or wanted == actual for wanted, actual in zip(promised, found, strict=True)
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
