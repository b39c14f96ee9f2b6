"""Whether a file is a model that devices can run at all: the first gate, before anything is executed. Pure.

The failure this exists for: a model that loads on the author's machine and nowhere else. So the answer does not come
from the ONNX Runtime that happens to be installed here, but from a list: operator domains and versions that every ONNX
Runtime of the supported range has, one self-contained file, tensors in and tensors out.

It runs nothing and reads no file. Whether the graph computes what it should is for the gates (gates.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from cloud.compilation.errors import (
    ExternalDataError,
    InvalidGraphError,
    ModelTooLargeError,
    NotOnnxError,
    SignatureError,
    UnsupportedDomainError,
    UnsupportedOpsetError,
)
from edge_component.contracts.manifest import DTYPES, TensorSpec

OPSETS: Mapping[str, tuple[int, int]] = MappingProxyType({"": (7, 22), "ai.onnx.ml": (1, 5), "com.microsoft": (1, 1)})
"""Admitted operator domains, with their first and last version: what ONNX Runtime 1.23, the oldest supported, runs.

Tried: 1.23.2 runs ai.onnx.ml 5 with its TreeEnsemble; of ai.onnx 23 it has no QuantizeLinear.
"""

IR_VERSION_MAX = 11
"""The newest file format that ONNX Runtime 1.23 reads (tried); onnx.helper.make_model writes a newer one by default."""

_PROTO_NAMES = {"float32": "FLOAT", "float64": "DOUBLE"}
DTYPE_BY_CODE: Mapping[int, str] = MappingProxyType(
    {getattr(TensorProto, _PROTO_NAMES.get(name, name.upper())): name for name in DTYPES}
)
"""ONNX's element type to numpy's name for it."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What is admitted at most.

    Attributes:
        model_bytes_max: protobuf itself ends at 2 GB; a bundle must fit a small device's disk twice.
        tensors_max: inputs, and outputs, of the graph; what the protocol's doors take in one request.
    """

    model_bytes_max: int = 1_000_000_000
    tensors_max: int = 256


ADMISSION_LIMITS = AdmissionLimits()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A model that may go on: its graph, and what a bundle's manifest says about it."""

    model: ModelProto
    opsets: Mapping[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def admit(data: bytes, limits: AdmissionLimits = ADMISSION_LIMITS) -> Admitted:
    """Decide over a model's bytes.

    Raises:
        ModelRefusedError: one of the leaves in errors.py, naming what is wrong and what to do.
    """
    model = _parse(data, limits)
    _refuse_newer_format(model)
    opsets = _admitted_opsets(model)
    _refuse_external_data(model)
    _refuse_rankless(model)
    typed = _checked(model)
    weights = {tensor.name for tensor in typed.graph.initializer}
    given = [value for value in typed.graph.input if value.name not in weights]
    inputs = _tensors("input", given, typed.graph, limits)
    outputs = _tensors("output", typed.graph.output, typed.graph, limits)
    _refuse_text_beside_bfloat16((*inputs, *outputs))
    return Admitted(model=model, opsets=MappingProxyType(opsets), inputs=inputs, outputs=outputs)


def require_size(size_bytes: int, limits: AdmissionLimits = ADMISSION_LIMITS) -> None:
    """To be asked before a file is read, too.

    Raises:
        ModelTooLargeError: more than is admitted.
    """
    if size_bytes > limits.model_bytes_max:
        raise ModelTooLargeError(
            f"the model has {size_bytes} bytes; {limits.model_bytes_max} are admitted",
            "Quantise or prune it: a device keeps it twice on its disk, and in memory.",
        )


def _parse(data: bytes, limits: AdmissionLimits) -> ModelProto:
    require_size(len(data), limits)
    remedy = "Export it to ONNX, and give the .onnx file itself."
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise NotOnnxError("the file is not an ONNX model: it does not parse", remedy) from error
    if not model.ir_version or not model.opset_import or not model.graph.node:
        raise NotOnnxError("the file is not an ONNX model: it holds no graph", remedy)
    return model


def _refuse_newer_format(model: ModelProto) -> None:
    if model.ir_version > IR_VERSION_MAX:
        raise UnsupportedOpsetError(
            f"the file is of ONNX's IR version {model.ir_version}; devices read up to {IR_VERSION_MAX}",
            f"Set model.ir_version = {IR_VERSION_MAX} and save it again; an older operator set needs no newer one.",
        )


def _admitted_opsets(model: ModelProto) -> dict[str, int]:
    imports = [*(entry for function in model.functions for entry in function.opset_import), *model.opset_import]
    imported = {_domain(entry.domain): entry.version for entry in imports}
    own = {function.domain for function in model.functions}
    used: dict[str, int] = {}
    for node in nodes_of(model):
        domain = _domain(node.domain)
        if domain in own:
            continue
        if domain not in OPSETS:
            raise UnsupportedDomainError(
                f"operator {node.op_type!r} is of domain {domain!r}, which devices have no code for",
                f"Use operators of {', '.join(repr(name or 'ai.onnx') for name in OPSETS)} alone.",
            )
        if domain not in imported:
            raise InvalidGraphError(
                f"operator {node.op_type!r} is of domain {domain!r}, which the model does not import"
            )
        used[domain] = imported[domain]
    for domain, version in used.items():
        first, last = OPSETS[domain]
        if not first <= version <= last:
            raise UnsupportedOpsetError(
                f"operator set {domain or 'ai.onnx'} {version} is not supported; {first} to {last} are",
                f"Export again with a target opset of {last} for {domain or 'ai.onnx'}"
                + ("." if domain else ", or convert with onnx.version_converter."),
            )
    return used


def _refuse_external_data(model: ModelProto) -> None:
    for tensor in _tensors_of(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ExternalDataError(
                f"weight {tensor.name!r} lies outside of the file",
                "Save it as one file, the other beside it: onnx.save(onnx.load(path), one_file); "
                "torch.onnx.export(…, external_data=False) writes one.",
            )


def _refuse_rankless(model: ModelProto) -> None:
    """Before onnx.checker, which says of it no more than that a field is missing somewhere."""
    for side, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
                raise SignatureError(
                    f"{side} {value.name!r} has no declared rank",
                    "Declare its shape, or have onnx.shape_inference.infer_shapes do it; dimensions may stay symbolic.",
                )


def _checked(model: ModelProto) -> ModelProto:
    """Apply ONNX's own rules; the model with inferred types, which fill in what the author left out.

    Types and shapes that contradict each other refuse nothing here: ONNX Runtime loads graphs whose exporter declared a
    shape wrongly, or whose operators onnx itself infers wrongly (MeanVarianceNormalization 13), and refuses types itself.
    """
    try:
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        return model
    except onnx.checker.ValidationError as error:
        first = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise InvalidGraphError(
            f"the graph breaks ONNX's rules: {first.strip()}", "Check it with onnx.checker.check_model."
        ) from error


def _tensors(
    side: str, values: Sequence[ValueInfoProto], graph: GraphProto, limits: AdmissionLimits
) -> tuple[TensorSpec, ...]:
    if not 1 <= len(values) <= limits.tensors_max:
        raise SignatureError(
            f"the graph has {len(values)} {side}s; 1 to {limits.tensors_max} are admitted",
            f"Let a Split or Concat within the graph make one {side} of many."
            if values
            else f"Export it with what it shall be asked as an {side}; a constant needs no model.",
        )
    names = [value.name for value in values]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SignatureError(
            f"{side} {twice!r} is listed twice; clients ask by name",
            f"Leave it out, or let an Identity give the second {side} a name of its own.",
        )
    return tuple(_tensor(side, value, graph) for value in values)


def _tensor(side: str, value: ValueInfoProto, graph: GraphProto) -> TensorSpec:
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "of no type"
        raise SignatureError(f"{side} {value.name!r} is {kind}, not a tensor", _tensors_alone(value, graph))
    tensor = value.type.tensor_type
    if tensor.elem_type not in DTYPE_BY_CODE:
        named = tensor.elem_type in TensorProto.DataType.values()
        kind = TensorProto.DataType.Name(tensor.elem_type).lower() if named else str(tensor.elem_type)
        raise SignatureError(
            f"{side} {value.name!r} has elements of type {kind}, which no client can send",
            f"Cast it inside of the model; admitted are {', '.join(DTYPES)}.",
        )
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
    return TensorSpec(value.name, DTYPE_BY_CODE[tensor.elem_type], shape)


def _refuse_text_beside_bfloat16(specs: tuple[TensorSpec, ...]) -> None:
    """ONNX Runtime's Python layer takes either, each in a way that the other cannot go; so a device refuses them."""
    named = {spec.dtype: spec.name for spec in specs}
    if "string" in named and "bfloat16" in named:
        raise SignatureError(
            f"{named['string']!r} is text and {named['bfloat16']!r} is bfloat16: a device serves no model with both",
            f"Cast {named['bfloat16']!r} to float32 inside of the model.",
        )


def _tensors_alone(value: ValueInfoProto, graph: GraphProto) -> str:
    """What makes a tensor of it. A ZipMap, which CatBoost cannot leave out, may be cut off where types are known."""
    zipped = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "ZipMap"}
    if value.name not in zipped:
        return "Export with tensors alone (an optional input: leave it out)."
    remedy = "Export it without ZipMap (skl2onnx: options={'zipmap': False}; onnxmltools: zipmap=False)"
    if zipped[value.name] not in {known.name for known in graph.value_info}:
        return f"{remedy}."
    inputs = [given.name for given in graph.input]
    outputs = [zipped.get(made.name, made.name) for made in graph.output]
    return f"{remedy}, or cut it off: onnx.utils.extract_model(path, new_path, {inputs}, {outputs})."


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """All of a model's nodes, those within branches, loops and functions too."""
    yield from _walk(model.graph.node)
    for function in model.functions:
        yield from _walk(function.node)


def _walk(nodes: list[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _walk(graph.node)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in nodes_of(model):
        for graph in _subgraphs(node):
            yield from graph.initializer
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
