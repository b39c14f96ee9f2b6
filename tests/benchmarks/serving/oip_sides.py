"""The Open Inference Protocol's ways to a model, through its real client, as sides of a benchmark.

A request includes making the client's own input and output objects and reading the answer as an array, as an application
must.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import np_to_triton_dtype

from tests.benchmarks.serving.models import BenchModel

Ask = Callable[[], object]

REST_PORT = 18_733
GRPC_PORT = 18_734
DOORS: Mapping[str, object] = {
    "oip_rest_port": REST_PORT, "oip_grpc_port": GRPC_PORT, "oip_grpc_socket": True, "oip_shared_memory": True,
}  # fmt: skip
"""The runtime's configuration that opens them."""
EVERY_DOOR: Mapping[str, object] = {
    **DOORS, "oip_rest_socket": True, "edge_manager_socket": True, "metrics_port": 18_735, "metrics_socket": True,
}  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """What a side may add to a model, in µs at p50."""

    name: str
    model: str
    side: str
    added_us: float


BARS = (
    Bar("rest_mlp_added", "mlp", "REST, binary", 150.0),
    Bar("rest_vis_added", "vis", "REST, binary", 300.0),
    Bar("grpc_mlp_added", "mlp", "gRPC, Unix socket", 200.0),
    Bar("grpc_vis_shared_memory_added", "vis", "gRPC, shared memory", 500.0),
)


class OipClients:
    """One client of each kind over a device's doors."""

    def __init__(self, work: Path) -> None:
        self._rest = tritonclient.http.InferenceServerClient(f"127.0.0.1:{REST_PORT}")
        self._unix = tritonclient.grpc.InferenceServerClient(f"unix:{work / 'oip-grpc.sock'}")
        self._tcp = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{GRPC_PORT}")
        self._regions = ExitStack()

    def sides(self, model: BenchModel) -> dict[str, Ask]:
        return {
            "REST, binary": sent(self._rest, tritonclient.http, model),
            "gRPC, Unix socket": sent(self._unix, tritonclient.grpc, model),
            "gRPC, TCP": sent(self._tcp, tritonclient.grpc, model),
            "gRPC, shared memory": shared(self._unix, model, self._regions),
        }

    def close(self) -> None:
        """Remove the shared memory."""
        self._regions.close()

    def bare_http(self) -> object:
        """A request without a model: what our HTTP loop and the client cost alone."""
        return self._rest.is_server_live()


def sent(client: object, kind: object, model: BenchModel, reads: str = "") -> Ask:
    """Everything that a request needs is made anew, and the first output read."""

    def ask() -> object:
        inputs = []
        for name, array in model.feed.items():
            tensor = kind.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            inputs.append(tensor.set_data_from_numpy(array))
        return client.infer(model.name, inputs).as_numpy(reads or model.outputs[0].name)

    return ask


def shared(client: object, model: BenchModel, regions: ExitStack) -> Ask:
    """Inputs and outputs in one registered region; writing the input into it is the client's work and counts."""
    placed = {name: array for name, array in model.feed.items() if array.ndim}  # tritonclient cannot place scalars
    input_bytes = sum(array.nbytes for array in placed.values())
    key, size = f"/edgewright-bench-{os.getpid()}-{model.name}", input_bytes + 65_536
    region = shm.create_shared_memory_region(model.name, key, size)
    regions.callback(shm.destroy_shared_memory_region, region)
    client.register_system_shared_memory(model.name, key, size)
    output = model.outputs[0].name
    answer_shape = list(model.answer()[0].shape)

    def ask() -> object:
        shm.set_shared_memory_region(region, list(placed.values()))
        inputs, offset = [], 0
        for name, array in model.feed.items():
            tensor = tritonclient.grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            if name in placed:
                inputs.append(tensor.set_shared_memory(model.name, array.nbytes, offset))
                offset += array.nbytes
            else:
                inputs.append(tensor.set_data_from_numpy(array))
        wanted = tritonclient.grpc.InferRequestedOutput(output)
        wanted.set_shared_memory(model.name, 65_536, input_bytes)
        client.infer(model.name, inputs, outputs=[wanted])
        return shm.get_contents_as_numpy(region, np.float32, answer_shape, input_bytes)

    return ask
