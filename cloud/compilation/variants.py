"""Make a model's candidates: the simplified fp32 graph, and static int8 (QDQ) in the flavour of each platform.

The failure this exists for: a converter that fails on one unusual graph and takes the whole compilation with it. A
candidate that cannot be made is a :class:`VariantError` with the tool's own sentence, and the next candidate is asked.
Whether a candidate is any good is for the gates; nothing here looks at an answer.

int8 touches the operators that hold the weights and the work (convolutions and matrix products), weights per channel:
measured on Silero VAD, quantising everything moved its output by .49, these alone by .004. Activations are unsigned on
x86-64 (U8S8: VNNI multiplies unsigned by signed) and signed on Arm (S8S8): a default to benchmark on the device.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime phones home unless this is set before its import

import onnx
import onnxslim
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from cloud.compilation.samples import Array, Samples

ACTIVATIONS: Mapping[str, Any] = MappingProxyType({"linux/x86_64": QuantType.QUInt8, "linux/aarch64": QuantType.QInt8})
QUANTISED_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class VariantError(Exception):
    """A tool could not make a candidate; its own words are the sentence."""


def simplify(model: onnx.ModelProto, destination: Path) -> None:
    """Fold constants and remove what computes nothing; the graph's inputs and outputs stay.

    Raises:
        VariantError: the simplifier failed, or changed the graph's signature.
    """
    with _reworded("simplifying"):
        slim = onnxslim.slim(model)
        if _names(slim) != _names(model):
            raise VariantError("simplifying: the graph's inputs or outputs changed")
        destination.write_bytes(slim.SerializeToString(deterministic=True))


def quantise(source: Path, destination: Path, calibration: Samples, platform: str) -> None:
    """Write the int8 variant of ``source`` for a platform, its ranges read off the calibration samples.

    Raises:
        VariantError: the graph holds nothing to quantise, or the quantiser failed.
    """
    model = onnx.load(str(source))
    if not any(node.op_type in QUANTISED_OPERATORS for node in model.graph.node):
        raise VariantError(f"int8: the graph holds no {', '.join(QUANTISED_OPERATORS)} to quantise")
    prepared = destination.with_suffix(".prepared.onnx")
    with _reworded("int8"):
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(destination),
            _Requests(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            per_channel=True,
            activation_type=ACTIVATIONS[platform],
            weight_type=QuantType.QInt8,
        )
    prepared.unlink()


class _Requests(CalibrationDataReader):  # type: ignore[misc] # onnxruntime ships no types
    """Calibration samples as the quantiser reads them."""

    def __init__(self, samples: Samples) -> None:
        self._requests = samples.requests()

    def get_next(self) -> dict[str, Array] | None:
        return next(self._requests, None)


@contextmanager
def _reworded(step: str) -> Iterator[None]:
    """One error type for a dozen, and silence for the tools' advice, which goes to the root logger."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    except VariantError:
        raise
    except Exception as error:
        raise VariantError(f"{step}: {type(error).__name__}: {str(error).strip() or 'no reason given'}") from error
    finally:
        root.setLevel(before)


def _names(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return (
        [value.name for value in model.graph.input if value.name not in weights],
        [value.name for value in model.graph.output],
    )
