"""A compilation folder as the compile stage leaves it, and publishing's ports in memory."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cloud.aws.kms import KeyManagement
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.compilation.result import Compilation, Variant
from cloud.names import model_component
from cloud.publishing.keys import create_kms_key
from cloud.publishing.memory import MemoryArtifacts, MemoryComponents
from cloud.publishing.publication import PublishingPorts
from cloud.publishing.signing import PemSigner
from edge_component.contracts.baseline import BIN_COUNT, Baseline, BaselineColumn
from edge_component.contracts.manifest import Feature, GoldenTest, TensorSpec, WatchedOutput
from simulator.aws.server import CloudOptions, LocalCloud
from tests.cloud.publishing.outage_proxy import OutageProxy

KEY = PemSigner.generate()
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PLATFORMS = ("linux/aarch64", "linux/x86_64")

MakeFolder = Callable[..., Path]


def linear_model(slope: float) -> onnx.ModelProto:
    """y = slope · x over three features."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor("w", TensorProto.FLOAT, [3, 1], [slope] * 3)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_compilation(
    folder: Path, slope: float = 1.0, platforms: tuple[str, ...] = PLATFORMS, model_name: str = "linear"
) -> Path:
    """Write a compilation folder of :func:`linear_model` and return it."""
    samples = np.arange(12, dtype=np.float32).reshape(4, 1, 3)
    variants = []
    for platform in platforms:
        path = folder / platform.replace("/", "-") / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(linear_model(slope).SerializeToString(deterministic=True))
        model_path = str(path.relative_to(folder))
        variants.append(Variant(platform, "fp32", model_path, GoldenTest(1e-4, 1e-5), "int8 was not asked for"))
    golden = {"input:x": samples, "output:y": samples.sum(axis=2, keepdims=True) * slope}
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    column = BaselineColumn("wind", (0.0,) * (BIN_COUNT - 1), (1,) * BIN_COUNT, 0.0, 1.0)
    (folder / "baseline.json").write_bytes(Baseline(model_name, 64, (column,)).to_bytes())
    Compilation(
        model_name=model_name,
        component_name=model_component(model_name),
        opsets={"": 17},
        inputs=(TensorSpec("x", "float32", (-1, 3)),),
        outputs=(TensorSpec("y", "float32", (-1, 1)),),
        variants=tuple(variants),
        features=(Feature("wind", "x", 0),),
        watched_outputs=(WatchedOutput("y", "y", 0, "value"),),
        lineage={"training_job_arn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/linear-1"},
    ).save(folder)
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """A factory: ``make_folder(name, slope=…)`` writes a compilation folder and returns it."""

    def make(name: str = "compilation", slope: float = 1.0, platforms: tuple[str, ...] = PLATFORMS) -> Path:
        return write_compilation(tmp_path / name, slope, platforms)

    return make


@pytest.fixture
def ports() -> PublishingPorts:
    """Everything in memory, the clock stopped."""
    return PublishingPorts(MemoryArtifacts(), MemoryComponents(), now=lambda: NOW)


@dataclass(frozen=True)
class Aws:
    """A local cloud behind a proxy that can fail, with a bucket and a signing key of this test's own."""

    proxy: OutageProxy
    session: AwsSession
    bucket: str
    key: str


@pytest.fixture(scope="module")  # only one local cloud may run in a process, and others' tests need one too
def local_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutageProxy]:
    with LocalCloud(CloudOptions(tmp_path_factory.mktemp("cloud"))) as cloud:
        proxy = OutageProxy(cloud.url)
        yield proxy
        proxy.stop()


@pytest.fixture
def aws(local_cloud: OutageProxy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Aws]:
    unique = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    for name, value in {
        "AWS_ENDPOINT_URL": local_cloud.url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "EDGEWRIGHT_BUCKET": f"bucket-{unique}",
        "EDGEWRIGHT_SIGNING_KEY": f"kms:alias/{unique}",
    }.items():
        monkeypatch.setenv(name, value)
    session = AwsSession("us-east-1")
    ObjectStore(session).ensure_bucket(f"bucket-{unique}", "us-east-1")
    create_kms_key(KeyManagement(session), unique)
    yield Aws(local_cloud, session, f"bucket-{unique}", f"kms:alias/{unique}")
    local_cloud.outage_after = None
