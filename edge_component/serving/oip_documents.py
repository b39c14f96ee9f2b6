"""Metadata, configuration and repository index, as documents that REST writes as JSON and gRPC reads into its messages.

The field names are the protocol's in both. The configuration is what Triton's clients ask for before they send anything:
``max_batch_size`` is 0 there, so that ``dims`` are the model's own shapes, batch dimension included.
"""

from collections.abc import Iterable
from typing import Any

from edge_component.contracts.manifest import TensorSpec
from edge_component.inference.router import ActiveModel
from edge_component.serving.oip_codec import DATATYPES

Document = dict[str, Any]

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
SHARED_MEMORY_EXTENSION = "system_shared_memory"


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
    return {
        "name": active.ref.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": 0,
        "input": [_configured(spec) for spec in active.inputs],
        "output": [_configured(spec) for spec in active.outputs],
    }


def repository_index(models: Iterable[ActiveModel]) -> list[Document]:
    """What is in the repository: what serves. A bundle on disk that does not serve cannot be asked for."""
    return [{"name": model.ref.name, "version": model.ref.version, "state": "READY", "reason": ""} for model in models]


def _tensor(spec: TensorSpec) -> Document:
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(spec.shape)}


def _configured(spec: TensorSpec) -> Document:
    datatype = DATATYPES[spec.dtype]
    return {
        "name": spec.name,
        "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
        "dims": list(spec.shape),
    }
