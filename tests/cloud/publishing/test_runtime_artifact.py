"""The runtime's artifact: only what belongs in it, the same bytes every time, and it installs without network."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cloud.errors import InvalidInputError
from cloud.publishing import wheels
from cloud.publishing.errors import SigningKeyError, VersionConflictError, WheelsUnavailableError
from cloud.publishing.memory import MemoryArtifacts, MemoryComponents
from cloud.publishing.publication import PublishingPorts
from cloud.publishing.publish_runtime import RuntimePublication, RuntimeRequest, publish_runtime
from cloud.publishing.runtime_artifact import RuntimeParts, requirements, runtime_entries, write_runtime_archive
from cloud.publishing.signing import key_hint
from cloud.publishing.wheels import (
    Wanted,
    Wheelhouse,
    constraints_for,
    default_cache,
    device_requirements,
    wheelhouse,
)
from cloud.settings import checkout_root
from tests.cloud.publishing.conftest import KEY

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
RUNTIME = "com.edgewright.Runtime"


def house(folder: Path, python_version: str = "3.11", numpy: str = "2.4.6") -> Wheelhouse:
    """A wheelhouse of two files that are wheels by name only."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f"numpy-{numpy}-cp311-cp311-linux_x86_64.whl", "flatbuffers-1-py3-none-any.whl", "pip-26.0.whl"):
        (folder / name).write_bytes(name.encode())
    found = {path.name: path for path in folder.iterdir() if not path.name.startswith("pip")}
    pins = (f"numpy=={numpy}", "flatbuffers==1")
    return Wheelhouse("linux/x86_64", python_version, found, folder / "pip-26.0.whl", pins)


def package(folder: Path) -> Path:
    """A device package with things in it that must not travel."""
    for name in ("__init__.py", "py.typed", "serving/door.py", "tests/test_x.py", "__pycache__/a.py", "notes.md"):
        (folder / "edge_component" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "edge_component" / name).write_text(name)
    return folder / "edge_component"


def test_only_sources_wheels_and_keys_travel(tmp_path: Path) -> None:
    parts = RuntimeParts(package(tmp_path), (KEY.public_key_pem(),), (house(tmp_path / "w"),))
    assert set(runtime_entries(parts)) == {
        "edge_component/__init__.py",
        "edge_component/py.typed",
        "edge_component/serving/door.py",
        "wheels/numpy-2.4.6-cp311-cp311-linux_x86_64.whl",
        "wheels/flatbuffers-1-py3-none-any.whl",
        "pip.whl",
        "requirements.txt",
        f"trust/{key_hint(KEY.public_key_pem())}.pem",
    }


def test_the_same_parts_give_the_same_archive(tmp_path: Path) -> None:
    digests = {
        write_runtime_archive(
            RuntimeParts(package(tmp_path / name), (KEY.public_key_pem(),), (house(tmp_path / name / "w"),)),
            tmp_path / f"{name}.zip",
        )
        for name in ("one", "two")
    }
    assert len(digests) == 1


def test_pins_that_python_versions_do_not_share_carry_a_marker(tmp_path: Path) -> None:
    old, new = house(tmp_path / "old", "3.11", "2.4.6"), house(tmp_path / "new", "3.13", "2.5.5")
    assert requirements((old, new)).splitlines() == [
        "flatbuffers==1",
        "numpy==2.4.6 ; python_version == '3.11'",
        "numpy==2.5.5 ; python_version == '3.13'",
    ]


@pytest.mark.parametrize(("keys", "problem"), [((), "trust no key"), ((b"x",), "not a PEM"), (("p384",), "P-256")])
def test_a_runtime_without_a_usable_key_is_refused(tmp_path: Path, keys: tuple[bytes | str, ...], problem: str) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    other_pem = other.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    pems = tuple(key if isinstance(key, bytes) else other_pem for key in keys)
    with pytest.raises(SigningKeyError, match=problem):
        runtime_entries(RuntimeParts(package(tmp_path), pems, (house(tmp_path / "w"),)))


def test_a_folder_that_is_not_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is not the package"):
        runtime_entries(RuntimeParts(tmp_path, (KEY.public_key_pem(),), (house(tmp_path / "w"),)))


def test_markers_of_the_lock_are_those_of_the_devices_python_not_of_this_one() -> None:
    lock = "numpy==2.4.6 ; python_full_version < '3.12'\nnumpy==2.5.5 ; python_full_version >= '3.12'\n# x\n\nrich==1\n"
    assert constraints_for(lock, "3.11") == ("numpy==2.4.6", "rich==1")
    assert constraints_for(lock, "3.13") == ("numpy==2.5.5", "rich==1")
    with pytest.raises(InvalidInputError, match=r"-e \./here"):
        constraints_for("-e ./here", "3.11")


def test_the_devices_requirements_are_its_extra() -> None:
    names = device_requirements((checkout_root() / "pyproject.toml").read_text())
    assert {name.partition(">")[0] for name in names} >= {"numpy", "onnxruntime", "awsiotsdk", "cryptography"}


def test_grpc_comes_along_only_if_asked_for() -> None:
    pyproject = (checkout_root() / "pyproject.toml").read_text()
    without, with_grpc = device_requirements(pyproject), device_requirements(pyproject, with_grpc=True)
    assert {name.partition(">")[0] for name in set(with_grpc) - set(without)} == {"hpack", "protobuf"}


def test_what_the_doors_read_at_run_time_is_in_the_artifact() -> None:
    sources = checkout_root() / "edge_component"
    names = set(runtime_entries(RuntimeParts(sources, (KEY.public_key_pem(),), ())))
    read = {f"edge_component/{path.relative_to(sources).as_posix()}" for path in sources.rglob("*.proto")}
    assert read
    assert read <= names


def test_the_cache_is_where_the_user_says() -> None:
    assert default_cache({"EDGEWRIGHT_WHEEL_CACHE": "/x"}) == Path("/x")
    assert default_cache({"XDG_CACHE_HOME": "/y"}) == Path("/y/edgewright/wheels")


WANTED = Wanted("linux/x86_64", "3.11", ("flatbuffers",), ("flatbuffers==1",))


def fill_cache(cache: Path) -> Path:
    folder = cache / WANTED.key
    folder.mkdir(parents=True)
    for name in ("flatbuffers-1-py3-none-any.whl", "pip-26.0-py3-none-any.whl"):
        (folder / name).write_bytes(name.encode())
    listing = {path.name: wheels.file_sha256(path) for path in folder.iterdir()}
    (folder / "wheels.json").write_text(json.dumps(listing))
    return folder


def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_a_whole_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_cache(tmp_path)
    no_index(monkeypatch)
    found = wheelhouse(WANTED, tmp_path)
    assert (found.pins, found.installer.name) == (("flatbuffers==1",), "pip-26.0-py3-none-any.whl")


@pytest.mark.parametrize("damage", ["absent", "changed", "unlisted"])
def test_a_damaged_cache_is_fetched_again_and_without_network_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    if damage != "absent":
        folder = fill_cache(tmp_path)
        wheel = folder / "flatbuffers-1-py3-none-any.whl"
        wheel.write_bytes(b"other") if damage == "changed" else (folder / "wheels.json").unlink()
    no_index(monkeypatch)
    with pytest.raises(WheelsUnavailableError, match=r"Python 3\.11 are not in") as caught:
        wheelhouse(WANTED, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert str(tmp_path) in caught.value.remedy
    assert caught.value.exit_code == 5


@pytest.fixture
def runtime_source(tmp_path: Path) -> Path:
    """A checkout with a package and requirements that a filled cache satisfies."""
    source = tmp_path / "checkout"
    package(source)
    (source / "pyproject.toml").write_text("[project.optional-dependencies]\ndevice = ['flatbuffers']\n")
    (source / "requirements.lock").write_text("flatbuffers==1\n")
    fill_cache(tmp_path / "cache")
    return source


def publish(source: Path, ports: PublishingPorts, version: str = "1.0.0") -> RuntimePublication:
    request = RuntimeRequest(
        version, "bucket", ("linux/x86_64",), ("3.11",), (KEY.public_key_pem(),),
        wheel_cache=source.parent / "cache", source=source,
    )  # fmt: skip
    return publish_runtime(request, ports)


def test_publishing_the_runtime_twice_is_one_version(runtime_source: Path, ports: PublishingPorts) -> None:
    first = publish(runtime_source, ports)
    assert publish(runtime_source, ports) == first
    assert publish(runtime_source, ports, "auto") == first
    assert isinstance(ports.catalog, MemoryComponents)
    assert list(ports.catalog.created) == [(RUNTIME, "1.0.0")]


def test_a_changed_source_is_another_version(runtime_source: Path, ports: PublishingPorts) -> None:
    publish(runtime_source, ports)
    (runtime_source / "edge_component" / "serving" / "door.py").write_text("changed")
    assert isinstance(ports.artifacts, MemoryArtifacts)
    before = dict(ports.artifacts.objects)
    with pytest.raises(VersionConflictError, match="exists with other content"):
        publish(runtime_source, ports)
    assert ports.artifacts.objects == before
    assert publish(runtime_source, ports, "auto").version == "1.1.0"


@pytest.mark.slow
def test_the_real_runtime_installs_by_its_recipe_without_network(tmp_path: Path, ports: PublishingPorts) -> None:
    request = RuntimeRequest("0.1.0", "bucket", ("linux/x86_64",), (THIS_PYTHON,), (KEY.public_key_pem(),))
    (uri,) = publish_runtime(request, ports).archives.values()
    assert isinstance(ports.artifacts, MemoryArtifacts)
    assert isinstance(ports.catalog, MemoryComponents)
    archive = tmp_path / "runtime.zip"
    archive.write_bytes(ports.artifacts.objects[uri])
    unpacked = tmp_path / "unpacked" / uri.rpartition("/")[2].removesuffix(".zip")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(unpacked)
    (manifest,) = json.loads(ports.catalog.created[RUNTIME, "0.1.0"])["Manifests"]
    script = manifest["Lifecycle"]["install"]["Script"]
    script = script.replace("{artifacts:decompressedPath}", str(tmp_path / "unpacked"))
    script = script.replace("{work:path}", str(tmp_path / "work"))
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PIP_INDEX_URL": "http://127.0.0.1:9"}
    for _ in range(2):  # the second time finds it complete
        subprocess.run(["sh", "-c", script], check=True, env=environment, timeout=280)
    check = "import edge_component.contracts, onnxruntime, awsiot, sys; print(sys.prefix)"
    python = tmp_path / "work" / "venv-0.1.0" / "bin" / "python"
    environment |= {"PYTHONPATH": str(unpacked), "ORT_DISABLE_TELEMETRY": "1"}
    answer = subprocess.run([python, "-c", check], check=True, env=environment, capture_output=True, text=True)
    assert answer.stdout.strip() == str(tmp_path / "work" / "venv-0.1.0")
