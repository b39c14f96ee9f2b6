"""The bundle manifest: what a model bundle is, whom it is for, and what it may replace.

The failure this exists for: a signature alone proves who made some bytes, not that they are the right ones now. The
manifest is one of the signed files and carries what a signature does not: component, version, monotonic release,
expiry and platform (against rollback, freeze and mix-and-match). A bundle's identity, its *digest*, is the SHA-256 of
``manifest.json``; the manifest lists every other file with its own digest, so the one names them all.

A bundle directory::

    manifest.json   this document
    model.onnx      the graph, in the variant compiled for ``platform``
    golden.npz      inputs and expected outputs, arrays named ``input:<name>`` and ``output:<name>``; see below
    baseline.json   optional: see baseline.py
    model.sig       OpenSSF Model Signing bundle over all the other files

Samples (``golden.npz``, and the archives that compiling reads): axis 0 counts the samples, and ``array[i]`` is the
*whole* tensor of request i, batch dimension included, so each array has one axis more than the graph's own. A batched
array could not say what a model with a fixed batch, a scalar input or a state whose batch is not axis 0 is asked; and
one run for each sample is what a client's request is.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from edge_component.contracts.codec import (
    DIGEST_PATTERN,
    NOTHING,
    VERSION_PATTERN,
    Document,
    Fields,
    as_integer,
    as_json,
    format_moment,
    from_bytes,
    schema_name,
    to_bytes,
)
from edge_component.contracts.limits import LIMITS

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
BASELINE_FILE = "baseline.json"
SIGNATURE_FILE = "model.sig"
HANDOVER_FILE = "activate.py"

PLATFORMS = ("linux/x86_64", "linux/aarch64")
DTYPES = (
    "float16", "bfloat16", "float32", "float64", "bool", "string",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
OUTPUT_KINDS = ("probability", "label", "value")
NAN_POLICIES = ("accept", "refuse")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of the graph: numpy's dtype name, and a shape in which -1 is a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one element of ``inputs`` or ``outputs``."""
        fields = Fields(value, where)
        return cls(
            name=fields.text("name"),
            dtype=fields.choice("dtype", DTYPES),
            shape=fields.items("shape", _as_dimension),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Feature:
    """A named column that telemetry watches: ``index`` on the last axis of the input tensor ``input``."""

    name: str
    input: str
    index: int
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one element of ``features``."""
        fields = Fields(value, where)
        return cls(fields.text("name"), fields.text("input"), fields.integer("index"), fields.rest())

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "name": self.name, "input": self.input, "index": self.index}


@dataclass(frozen=True, slots=True)
class WatchedOutput:
    """An output column that telemetry watches.

    ``kind``: ``probability`` of the positive class (confidence is read from it), ``label`` (counted as a class) or
    ``value`` (binned like a feature).
    """

    name: str
    output: str
    index: int
    kind: str
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one element of ``watched_outputs``."""
        fields = Fields(value, where)
        return cls(
            name=fields.text("name"),
            output=fields.text("output"),
            index=fields.integer("index"),
            kind=fields.choice("kind", OUTPUT_KINDS),
            extra=fields.rest(),
        )

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "name": self.name, "output": self.output, "index": self.index, "kind": self.kind}


@dataclass(frozen=True, slots=True)
class BundledFile:
    """A file of the bundle other than the manifest and the signature."""

    sha256: str
    size_bytes: int
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode one entry of ``files``."""
        fields = Fields(value, where)
        return cls(fields.text("sha256", pattern=DIGEST_PATTERN), fields.integer("size_bytes"), fields.rest())

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "sha256": self.sha256, "size_bytes": self.size_bytes}


@dataclass(frozen=True, slots=True)
class GoldenTest:
    """How near the device's outputs must come to ``golden.npz``: ``|got - expected| <= atol + rtol * |expected|``."""

    rtol: float
    atol: float
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode ``golden``."""
        fields = Fields(value, where)
        return cls(fields.number("rtol"), fields.number("atol"), fields.rest())

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "rtol": self.rtol, "atol": self.atol}


@dataclass(frozen=True, slots=True)
class Caps:
    """What the first load and the golden test may use, in a child process, before the model is trusted to serve."""

    load_timeout_ms: int = 60_000
    memory_bytes_max: int = 2_000_000_000
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode ``caps``."""
        fields = Fields(value, where)
        return cls(
            fields.integer("load_timeout_ms", minimum=1), fields.integer("memory_bytes_max", minimum=1), fields.rest()
        )

    def to_document(self) -> Document:
        """Encode."""
        return {**self.extra, "load_timeout_ms": self.load_timeout_ms, "memory_bytes_max": self.memory_bytes_max}


@dataclass(frozen=True, slots=True)
class Manifest:
    """``manifest.json``, version 1.

    Attributes:
        component_name: Greengrass component that carries the bundle, ``com.edgewright.model.<Name>``.
        model_name: the name that clients ask for, such as ``weather``.
        version: semantic version of the component.
        release: monotonic per component; a device refuses any below the highest it has committed.
        platform: ``linux/x86_64`` or ``linux/aarch64``.
        created_at, expires_at: after ``expires_at`` a device no longer *activates* the bundle; it goes on serving it.
        precision: of the compiled variant, ``fp32`` or ``int8``.
        opsets: operator domain to opset version, ``""`` being ONNX's own.
        inputs, outputs: the graph's signature.
        features, watched_outputs: what telemetry looks at; may be empty.
        nan_policy: whether NaN in an input is answered (``accept``) or refused.
        files: path to digest and size of every file but the manifest and the signature.
        golden: tolerance of the golden test.
        caps: of the trial load.
        lineage: where it came from: job ARNs, metrics, dataset; informative.
    """

    component_name: str
    model_name: str
    version: str
    release: int
    platform: str
    created_at: datetime
    expires_at: datetime
    precision: str
    opsets: Mapping[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: Mapping[str, BundledFile]
    golden: GoldenTest
    features: tuple[Feature, ...] = ()
    watched_outputs: tuple[WatchedOutput, ...] = ()
    nan_policy: str = "accept"
    caps: Caps = Caps()
    lineage: Mapping[str, Any] = NOTHING
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def read(cls, document: object) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(document)
        fields.schema("bundle", 1)
        return cls(
            component_name=fields.text("component_name"),
            model_name=fields.text("model_name"),
            version=fields.text("version", pattern=VERSION_PATTERN),
            release=fields.integer("release", minimum=1),
            platform=fields.choice("platform", PLATFORMS),
            created_at=fields.moment("created_at"),
            expires_at=fields.moment("expires_at"),
            precision=fields.text("precision"),
            opsets=fields.table("opsets", as_integer),
            inputs=fields.items("inputs", TensorSpec.read),
            outputs=fields.items("outputs", TensorSpec.read),
            files=fields.table("files", BundledFile.read),
            golden=fields.nested("golden", GoldenTest.read),
            features=fields.items("features", Feature.read),
            watched_outputs=fields.items("watched_outputs", WatchedOutput.read),
            nan_policy=fields.choice("nan_policy", NAN_POLICIES),
            caps=fields.nested("caps", Caps.read),
            lineage=fields.table("lineage", as_json),
            extra=fields.rest(),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode ``manifest.json``'s bytes; see :meth:`read`."""
        return cls.read(from_bytes(data, LIMITS.manifest_bytes_max))

    def to_document(self) -> Document:
        """Encode; the inverse of :meth:`read`."""
        return {
            **self.extra,
            "schema": schema_name("bundle", 1),
            "component_name": self.component_name,
            "model_name": self.model_name,
            "version": self.version,
            "release": self.release,
            "platform": self.platform,
            "created_at": format_moment(self.created_at),
            "expires_at": format_moment(self.expires_at),
            "precision": self.precision,
            "opsets": dict(self.opsets),
            "inputs": [spec.to_document() for spec in self.inputs],
            "outputs": [spec.to_document() for spec in self.outputs],
            "files": {path: file.to_document() for path, file in self.files.items()},
            "golden": self.golden.to_document(),
            "features": [feature.to_document() for feature in self.features],
            "watched_outputs": [output.to_document() for output in self.watched_outputs],
            "nan_policy": self.nan_policy,
            "caps": self.caps.to_document(),
            "lineage": dict(self.lineage),
        }

    def to_bytes(self) -> bytes:
        """``manifest.json``: canonical, so that the same manifest has one digest."""
        return to_bytes(self.to_document())


def bundle_digest(manifest_bytes: bytes) -> str:
    """A bundle's identity: SHA-256 of ``manifest.json`` as it lies on disk, 64 lower-case hex digits."""
    return hashlib.sha256(manifest_bytes).hexdigest()


def _as_dimension(value: object, where: str) -> int:
    return as_integer(value, where, minimum=-1)
