"""Signed bundles of tiny real models, made by the tests' own signer (checked against ``model_signing`` once)."""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from onnx import TensorProto, helper

from edge_component.bundles.signature import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE
from edge_component.contracts.manifest import BundledFile, GoldenTest, Manifest, TensorSpec, bundle_digest
from edge_component.platform_name import platform_name

COMPONENT = "com.edgewright.model.Scale"
Files = dict[str, bytes]


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def scale_model(factor: float, width: int = 3, batch: int | str = "batch", op: str = "Mul") -> bytes:
    """``y = x <op> factor`` over float32 rows of ``width``."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, width])
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
    graph = helper.make_graph([helper.make_node(op, ["x", "factor"], ["y"])], "scale", [x], [y], [constant])
    return serialized(graph)


def serialized(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def npz(**arrays: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.savez(target, **arrays)
    return target.getvalue()


def scale_golden(factor: float, width: int = 3, samples: int = 4) -> bytes:
    x = np.linspace(-1, 1, samples * width, dtype=np.float32).reshape(samples, 1, width)
    return npz(**{"input:x": x, "output:y": x * np.float32(factor)})


@dataclass(frozen=True)
class Bundle:
    """A bundle's zip and what identifies it."""

    archive: Path
    manifest: Manifest
    digest: str

    @property
    def component(self) -> str:
        return self.manifest.component_name

    @property
    def version(self) -> str:
        return self.manifest.version


class BundleFactory:
    """Writes zips; every aspect of a bundle can be bent."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, folder: Path) -> None:
        self.key = key
        self._folder = folder
        self._count = 0

    def write_public_key(self, path: Path) -> None:
        path.write_bytes(
            self.key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def scale(
        self,
        version: str,
        factor: float,
        *,
        release: int | None = None,
        name: str = "scale",
        component: str = COMPONENT,
        width: int = 3,
        batch: int | str = "batch",
        change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
        files: Mapping[str, bytes] | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        after: Callable[[Files], None] = lambda files: None,
    ) -> Bundle:
        """A bundle of ``y = x * factor``.

        ``change`` bends the manifest before it is written, ``files`` replaces contents before they are listed and
        signed, ``after`` bends the signed files.
        """
        contents: Files = {
            "model.onnx": scale_model(factor, width, batch), "golden.npz": scale_golden(factor, width), **(files or {}),
        }  # fmt: skip
        shape = (-1 if isinstance(batch, str) else batch, width)
        now = datetime.now(UTC)
        manifest = Manifest(
            component_name=component,
            model_name=name,
            version=version,
            release=release if release is not None else release_of(version),
            platform=platform_name(),
            created_at=now,
            expires_at=now + timedelta(days=30),
            precision="fp32",
            opsets={"": 17},
            inputs=(TensorSpec("x", "float32", shape),),
            outputs=(TensorSpec("y", "float32", shape),),
            files={},
            golden=GoldenTest(1e-5, 1e-6),
        )
        manifest = change(manifest)
        listed = {path: BundledFile(hashlib.sha256(data).hexdigest(), len(data)) for path, data in contents.items()}
        manifest = replace(manifest, files={**listed, **manifest.files})
        contents["manifest.json"] = manifest.to_bytes()
        contents["model.sig"] = sign(contents, key or self.key)
        after(contents)
        return Bundle(self.write_zip(contents), manifest, bundle_digest(manifest.to_bytes()))

    def write_zip(self, contents: Files) -> Path:
        self._count += 1
        path = self._folder / f"bundle-{self._count}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(contents):
                archive.writestr(name, contents[name])
        return path


def release_of(version: str) -> int:
    major, minor, patch = (int(part) for part in version.split("."))
    return major * 10_000 + minor * 100 + patch + 1


def statement_of(files: Files) -> dict[str, object]:
    names = sorted(files)
    digests = {name: hashlib.sha256(files[name]).digest() for name in names}
    root = hashlib.sha256(b"".join(digests[name] for name in names)).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "model", "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": ["model.sig"],
            },
            "resources": [{"name": n, "algorithm": "sha256", "digest": digests[n].hex()} for n in names],
        },
    }  # fmt: skip


def sign(files: Files, key: ec.EllipticCurvePrivateKey) -> bytes:
    return sign_statement(statement_of(files), key)


def sign_statement(statement: Mapping[str, object], key: ec.EllipticCurvePrivateKey) -> bytes:
    payload = json.dumps(statement).encode()
    message = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": hashlib.sha256(public).hexdigest()}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [
                    {"sig": base64.b64encode(key.sign(message, ec.ECDSA(hashes.SHA256()))).decode(), "keyid": ""}
                ],
            },
        }
    ).encode()
