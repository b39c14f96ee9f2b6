"""What compiling left behind: one folder per platform, and ``compilation.json``, which publishing builds bundles from.

A folder::

    compilation.json
    linux-x86_64/model.onnx          the chosen variant
    linux-aarch64/model.onnx
    golden.npz                       arrays ``input:<name>``, ``output:<name>``, made with the fp32 graph; axis 0 counts
                                     samples, ``array[i]`` is one request's whole tensor (see the manifest contract)
    baseline.json                    optional
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edge_component.contracts.codec import (
    NOTHING,
    Document,
    Fields,
    as_integer,
    as_json,
    from_bytes,
    schema_name,
    to_bytes,
)
from edge_component.contracts.manifest import Feature, GoldenTest, TensorSpec, WatchedOutput

COMPILATION_FILE = "compilation.json"
AUTO, FP32 = "auto", "fp32"
PRECISIONS = (AUTO, FP32)
"""What a compilation may be asked for: int8 where it passes every gate, else fp32; or fp32 alone."""
SIZE_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """One gate's answer for one candidate variant; ``value`` was compared with ``limit``, both in ``unit``."""

    gate: str
    precision: str
    passed: bool
    value: float
    limit: float
    unit: str
    sentence: str

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode."""
        fields = Fields(value, where)
        return cls(
            fields.text("gate"), fields.text("precision"), fields.boolean("passed"),
            fields.number("value"), fields.number("limit"), fields.text("unit"), fields.text("sentence"),
        )  # fmt: skip

    def to_document(self) -> Document:
        """Encode."""
        return {
            "gate": self.gate, "precision": self.precision, "passed": self.passed,
            "value": self.value, "limit": self.limit, "unit": self.unit, "sentence": self.sentence,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variant:
    """What was chosen for one platform.

    Attributes:
        platform: ``linux/x86_64`` or ``linux/aarch64``.
        precision: ``int8`` or ``fp32``.
        model_path: relative to the compilation folder.
        golden: tolerance that this variant keeps against ``golden.npz``.
        reason: why this precision: empty if int8 passed every gate, else the sentence of the gate that refused int8,
            or that fp32 was asked for.
        verdicts: every gate that was asked.
    """

    platform: str
    precision: str
    model_path: str
    golden: GoldenTest
    reason: str
    verdicts: tuple[GateVerdict, ...] = ()

    @classmethod
    def read(cls, value: object, where: str) -> Self:
        """Decode."""
        fields = Fields(value, where)
        return cls(
            fields.text("platform"), fields.text("precision"), fields.text("model_path"),
            fields.nested("golden", GoldenTest.read), fields.text("reason"), fields.items("verdicts", GateVerdict.read),
        )  # fmt: skip

    def to_document(self) -> Document:
        """Encode."""
        return {
            "platform": self.platform, "precision": self.precision, "model_path": self.model_path,
            "golden": self.golden.to_document(), "reason": self.reason,
            "verdicts": [verdict.to_document() for verdict in self.verdicts],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compilation:
    """``compilation.json``: everything publishing needs beside the files themselves."""

    model_name: str
    component_name: str
    opsets: Mapping[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    variants: tuple[Variant, ...]
    features: tuple[Feature, ...] = ()
    watched_outputs: tuple[WatchedOutput, ...] = ()
    nan_policy: str = "accept"
    lineage: Mapping[str, Any] = NOTHING

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``compilation.json`` from a compilation folder.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(from_bytes((folder / COMPILATION_FILE).read_bytes(), SIZE_BYTES_MAX))
        fields.schema("compilation", 1)
        return cls(
            model_name=fields.text("model_name"),
            component_name=fields.text("component_name"),
            opsets=fields.table("opsets", as_integer),
            inputs=fields.items("inputs", TensorSpec.read),
            outputs=fields.items("outputs", TensorSpec.read),
            variants=fields.items("variants", Variant.read),
            features=fields.items("features", Feature.read),
            watched_outputs=fields.items("watched_outputs", WatchedOutput.read),
            nan_policy=fields.text("nan_policy"),
            lineage=fields.table("lineage", as_json),
        )

    def save(self, folder: Path) -> None:
        """Write ``compilation.json``."""
        (folder / COMPILATION_FILE).write_bytes(to_bytes(self.to_document()))

    def to_document(self) -> Document:
        """Encode."""
        return {
            "schema": schema_name("compilation", 1),
            "model_name": self.model_name,
            "component_name": self.component_name,
            "opsets": dict(self.opsets),
            "inputs": [spec.to_document() for spec in self.inputs],
            "outputs": [spec.to_document() for spec in self.outputs],
            "variants": [variant.to_document() for variant in self.variants],
            "features": [feature.to_document() for feature in self.features],
            "watched_outputs": [output.to_document() for output in self.watched_outputs],
            "nan_policy": self.nan_policy,
            "lineage": dict(self.lineage),
        }
