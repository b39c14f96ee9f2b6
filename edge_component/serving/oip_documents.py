"""Metadata, configuration and repository index, as documents that REST writes as JSON and gRPC reads into its messages.

The field names are the protocol's in both. The configuration is what Triton's clients ask for before they send anything, and
what they believe: a model whose every tensor begins with a free axis takes batches, so its ``max_batch_size`` is not 0, and
its ``dims`` leave that axis out (the metadata's shapes never do); ``perf_analyzer -b`` and its like go by that. Where an input
is that axis alone nothing would be left, and what Triton says then (``dims: [1]``, sent as [n, 1]) is not what the model takes:
it is told as it is, without batches.
"""

from collections.abc import Iterable
from typing import Any

from edge_component.contracts.heartbeat import ModelRef
from edge_component.contracts.manifest import TensorSpec
from edge_component.inference.batching import Batcher
from edge_component.inference.router import ActiveModel
from edge_component.inference.sequences import Sequences
from edge_component.serving.oip_codec import DATATYPES

Document = dict[str, Any]

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = (
    "binary_tensor_data", "classification", "model_configuration", "model_repository", "sequence", "statistics"
)  # fmt: skip
SHARED_MEMORY_EXTENSION = "system_shared_memory"
BATCH_ROWS_TOLD = 4096
"""``max_batch_size`` where nothing but the size of a message limits a batch; a larger one is answered all the same."""


def server_metadata(runtime_version: str, *, shared_memory: bool) -> Document:
    """Who serves, and which extensions of the protocol it has."""
    extensions = [*EXTENSIONS, SHARED_MEMORY_EXTENSION] if shared_memory else list(EXTENSIONS)
    return {"name": "edgewright", "version": runtime_version, "extensions": extensions}


def model_metadata(active: ActiveModel) -> Document:
    """A model's tensors; -1 is any size."""
    return {
        "name": active.ref.name,
        "versions": [active.ref.version],
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in active.inputs],
        "outputs": [_tensor(spec) for spec in active.outputs],
    }


def model_config(active: ActiveModel) -> Document:
    """Triton's ModelConfig, as far as it says anything here."""
    batched = takes_batches(active) and all(len(spec.shape) > 1 for spec in active.inputs)
    return {
        "name": active.ref.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": _batch_rows_max(active) if batched else 0,
        "input": [{**_configured(spec, batched=batched), "format": "FORMAT_NONE"} for spec in active.inputs],
        "output": [_configured(spec, batched=batched) for spec in active.outputs],
        "model_transaction_policy": {"decoupled": False},
        **_scheduling(active),
    }


def takes_batches(active: ActiveModel) -> bool:
    """Every tensor begins with a free axis: Triton's own rule for ONNX models."""
    specs = (*active.inputs, *active.outputs)
    return bool(active.inputs) and all(spec.shape and spec.shape[0] == -1 for spec in specs)


def repository_index(refs: Iterable[ModelRef]) -> list[Document]:
    """What is in the repository: what serves. A bundle on disk that does not serve cannot be asked for."""
    return [{"name": ref.name, "version": ref.version, "state": "READY", "reason": ""} for ref in refs]


def _tensor(spec: TensorSpec) -> Document:
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(spec.shape)}


def _configured(spec: TensorSpec, *, batched: bool) -> Document:
    datatype = DATATYPES[spec.dtype]
    dims = list(spec.shape[1:] if batched else spec.shape)
    shape: Document = (
        {"dims": dims} if dims else {"dims": [1], "reshape": {"shape": []}}
    )  # Triton has no dims for a scalar
    return {"name": spec.name, "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}", **shape}


def _batch_rows_max(active: ActiveModel) -> int:
    return active.detour.rule.rows_max if isinstance(active.detour, Batcher) else BATCH_ROWS_TOLD


def _scheduling(active: ActiveModel) -> Document:
    """Triton's ``scheduling_choice``: clients send sequences to a model that says it carries their state."""
    if isinstance(active.detour, Batcher):
        return {"dynamic_batching": {"max_queue_delay_microseconds": active.detour.rule.delay_us_max}}
    if isinstance(active.detour, Sequences):
        return {"sequence_batching": {"max_sequence_idle_microseconds": int(active.detour.limits.idle_s * 1_000_000)}}
    return {}
