"""Shared memory: through the real client, and everything a client must not be able to do with it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from edge_component.serving.oip_errors import (
    OipMalformedError,
    OipTooLargeError,
    RegionBoundsError,
    RegionForeignError,
    RegionLimitError,
    RegionTakenError,
    RegionUnknownError,
)
from edge_component.serving.oip_request import SHARED_TENSORS_MAX
from edge_component.serving.regions import REGIONS_MAX, Regions
from tests.edge_component.serving.oip.conftest import BODY_BYTES_MAX, Doors, MakeDoors, UnixHttp
from tests.edge_component.serving.oip.test_clients import client_of

ROW = np.array([[1, 2, 3]], np.float32)
KEY = f"/edgewright-test-{os.getpid()}"


@pytest.fixture
def memory() -> Iterator[Any]:
    region = shm.create_shared_memory_region("both", KEY, 64)
    yield region
    shm.destroy_shared_memory_region(region)


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_inputs_and_outputs_in_shared_memory(doors: Doors, request: Any, memory: Any, door: str) -> None:
    client = request.getfixturevalue("http_client") if door == "http" else grpc_over_unix(doors, request)
    kind = tritonclient.http if door == "http" else tritonclient.grpc
    shm.set_shared_memory_region(memory, [ROW])
    client.register_system_shared_memory("both", KEY, 64)
    sent = kind.InferInput("x", [1, 3], "FP32")
    sent.set_shared_memory("both", 12)
    wanted = kind.InferRequestedOutput("y")
    wanted.set_shared_memory("both", 12, offset=32)
    answer = client.infer("scale", [sent], outputs=[wanted])
    assert answer.get_output("y") is not None
    assert shm.get_contents_as_numpy(memory, np.float32, [1, 3], offset=32).tolist() == [[2.0, 4.0, 6.0]]
    status = client.get_system_shared_memory_status()
    names = [region["name"] for region in status] if door == "http" else list(status.regions)
    assert names == ["both"]
    client.unregister_system_shared_memory()
    with pytest.raises(InferenceServerException, match="no region 'both'"):
        client.infer("scale", [sent], outputs=[wanted])


def grpc_over_unix(doors: Doors, request: Any) -> Any:
    client = tritonclient.grpc.InferenceServerClient(f"unix:{doors.grpc_path}")
    request.addfinalizer(client.close)
    return client


def test_a_mixture_of_shared_and_sent_outputs_keeps_its_order(doors: Doors, http_client: Any, memory: Any) -> None:
    http_client.register_system_shared_memory("both", KEY, 64)
    sent = tritonclient.http.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)
    answer = http_client.infer("scale", [sent], outputs=[tritonclient.http.InferRequestedOutput("y")])
    assert answer.as_numpy("y").tolist() == [[2.0, 4.0, 6.0]]


def test_it_is_off_unless_configured(open_doors: MakeDoors, request: Any) -> None:
    doors = open_doors(shared_memory=False)
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{doors.rest.port}")
    request.addfinalizer(client.close)
    with pytest.raises(InferenceServerException, match="switched off on this device"):
        client.register_system_shared_memory("both", KEY, 64)
    assert "system_shared_memory" not in client.get_server_metadata()["extensions"]
    with pytest.raises(InferenceServerException, match="switched off"):
        grpc_over_unix(doors, request).register_system_shared_memory("both", KEY, 64)


def test_a_client_that_shrinks_its_memory_gets_an_error_and_the_server_lives(
    doors: Doors, http_client: Any, memory: Any
) -> None:
    http_client.register_system_shared_memory("both", KEY, 64)
    sent = tritonclient.http.InferInput("x", [1, 3], "FP32")
    sent.set_shared_memory("both", 12)
    os.truncate(f"/dev/shm{KEY}", 8)
    with pytest.raises(InferenceServerException, match="has become smaller"):
        http_client.infer("scale", [sent])
    wanted = tritonclient.http.InferRequestedOutput("y")
    wanted.set_shared_memory("both", 12)
    whole = tritonclient.http.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROW)
    with pytest.raises(InferenceServerException, match="has become smaller"):
        http_client.infer("scale", [whole], outputs=[wanted])
    assert http_client.infer("scale", [whole]).as_numpy("y").tolist() == [[2.0, 4.0, 6.0]]


def test_over_a_unix_socket_regions_are_the_users_who_asks(doors: Doors, memory: Any) -> None:
    client = UnixHttp(doors.rest_path)
    client.request("POST", "/v2/systemsharedmemory/region/both/register", f'{{"key":"{KEY}","byte_size":64}}')
    assert client.getresponse().read() == b"{}"
    client.request("POST", "/v2/systemsharedmemory/region/both/register", '{"key": 1}')
    assert b"key must be text" in client.getresponse().read()
    client.close()


# The regions themselves, over a folder of the test's own.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine").write_bytes(bytes(range(64)))
    return tmp_path


@pytest.fixture
def regions(folder: Path) -> Regions:
    return Regions(1_000_000, str(folder))


def test_read_and_write_within_the_region(regions: Regions, folder: Path) -> None:
    regions.register("r", "mine", 8, 16, None)
    region = regions.find("r", None)
    assert bytes(region.read(4, 4)) == bytes([12, 13, 14, 15])
    region.write(4, 4, b"abcd")
    assert (folder / "mine").read_bytes()[12:16] == b"abcd"
    assert regions.status("", None) == [{"name": "r", "key": "mine", "offset": 8, "byte_size": 16}]


@pytest.mark.parametrize(("offset", "size"), [(0, 17), (16, 1), (-1, 4), (2**62, 2**62), (4, -1)])
def test_nothing_beyond_the_region(regions: Regions, offset: int, size: int) -> None:
    regions.register("r", "mine", 8, 16, None)
    region = regions.find("r", None)
    with pytest.raises(RegionBoundsError):
        region.read(offset, size)
    with pytest.raises(RegionBoundsError):
        region.write(offset, size, b"a")


@pytest.mark.parametrize(("offset", "size"), [(0, 65), (64, 1), (-1, 1), (0, 0), (0, -5), (2**63, 2**63)])
def test_nothing_beyond_the_memory_is_registered(regions: Regions, offset: int, size: int) -> None:
    with pytest.raises(RegionBoundsError):
        regions.register("r", "mine", offset, size, None)


@pytest.mark.parametrize(
    "key", ["", "/", "..", "../etc/passwd", "/a/b", "a\0b", "nothing", "x" * 300, "link", "folder", "pipe"]
)
def test_only_plain_files_by_plain_names(regions: Regions, folder: Path, key: str) -> None:
    (folder / "link").symlink_to(folder / "mine")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(RegionForeignError):
        regions.register("r", key, 0, 1, None)


def test_memory_of_another_user_is_refused(regions: Regions, folder: Path) -> None:
    with pytest.raises(RegionForeignError, match="somebody else"):
        regions.register("r", "mine", 0, 64, os.geteuid() + 1)


def test_regions_of_another_user_do_not_exist(regions: Regions, folder: Path) -> None:
    regions.register("r", "mine", 0, 64, None)
    other = os.geteuid() + 1
    with pytest.raises(RegionUnknownError):
        regions.find("r", other)
    assert regions.status("", other) == []
    regions.unregister("", other)
    assert regions.find("r", None)


def test_names_are_taken_once_and_so_many_at_most(regions: Regions) -> None:
    for number in range(REGIONS_MAX):
        regions.register(str(number), "mine", 0, 64, None)
    with pytest.raises(RegionTakenError):
        regions.register("0", "mine", 0, 64, None)
    with pytest.raises(RegionLimitError):
        regions.register("one more", "mine", 0, 64, None)
    regions.unregister("0", None)
    regions.register("one more", "mine", 0, 64, None)


def test_descriptors_go_with_their_regions(regions: Regions) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    regions.register("r", "mine", 0, 64, None)
    with pytest.raises(RegionTakenError):
        regions.register("r", "mine", 0, 64, None)
    in_use = regions.find("r", None)
    regions.unregister("r", None)
    assert bytes(in_use.read(0, 1)) == b"\0"
    del in_use
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_sparse_memory_is_not_read_as_one_tensor(folder: Path) -> None:
    with (folder / "sparse").open("wb") as sparse:
        sparse.truncate(2**40)
    regions = Regions(1_000, str(folder))
    regions.register("r", "sparse", 0, 2**40, None)
    with pytest.raises(OipTooLargeError):
        regions.find("r", None).read(0, 2**40)


@pytest.mark.parametrize("name", ["", "n" * 256, "n" * 3_000_000])
def test_a_region_has_a_name_and_none_that_costs(regions: Regions, name: str) -> None:
    """Over gRPC a name may come that is as large as a request, and would be kept. An empty one could not be asked for."""
    with pytest.raises(OipMalformedError, match="1 to 255 characters"):
        regions.register(name, "mine", 0, 64, None)
    regions.register("n" * 255, "mine", 0, 64, None)


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_short_request_does_not_take_more_of_shared_memory_than_a_few_tensors(
    doors: Doors, request: Any, memory: Any, door: str
) -> None:
    """However often it names the same region. As much as one tensor may have, many times, would be all of the device's memory."""
    client, kind = client_of(request, doors, door)
    os.truncate(f"/dev/shm{KEY}", BODY_BYTES_MAX)
    client.register_system_shared_memory("both", KEY, BODY_BYTES_MAX)
    inputs = [kind.InferInput(f"x{number}", [1, BODY_BYTES_MAX], "UINT8") for number in range(SHARED_TENSORS_MAX + 1)]
    for each in inputs:
        each.set_shared_memory("both", BODY_BYTES_MAX)
    with pytest.raises(InferenceServerException, match="in shared memory together") as refusal:
        client.infer("scale", inputs)
    assert refusal.value.status() in ("413", "StatusCode.RESOURCE_EXHAUSTED")
    with pytest.raises(InferenceServerException, match="takes") as refusal:
        client.infer("scale", inputs[:-1])
    assert refusal.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


def test_registering_from_many_threads_takes_a_name_once(regions: Regions) -> None:
    taken: list[str] = []

    def register() -> None:
        try:
            regions.register("r", "mine", 0, 64, None)
        except RegionTakenError:
            taken.append("taken")

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 7
