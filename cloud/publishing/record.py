"""The publication record: ``publications/<component>/<version>.json`` in S3, written before anything else.

The failure this exists for: S3 goes away in the middle of a publish, and running it again makes other bytes, because the
clock has moved, another release number is next, or ECDSA signs differently each time. The record fixes all of that
before the first artifact is uploaded; a re-run reads it and arrives at the very same bytes. It also decides whether a
version that exists is *this* version: it holds the digests that the version stands for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from cloud.publishing.bundle import Stamp
from cloud.s3_uri import S3Uri
from edge_component.contracts.codec import (
    DIGEST_PATTERN,
    NOTHING,
    VERSION_PATTERN,
    Document,
    Fields,
    as_text,
    format_moment,
    from_bytes,
    schema_name,
    to_bytes,
)
from edge_component.contracts.manifest import MODEL_FILE

RECORD_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class PublicationRecord:
    """One published (or half-published) version of one component.

    Attributes:
        component_name, version: what it is.
        stamp: release number and times.
        digests: platform to what identifies its content: a bundle's digest, or the SHA-256 of a runtime archive.
        key_hint: SHA-256 of the signing key's public half; empty where nothing is signed.
        signatures: platform to ``model.sig``, kept because ECDSA signs differently each time.
        model_name: what clients ask for and heartbeats name; empty for the runtime.
    """

    component_name: str
    version: str
    stamp: Stamp
    digests: Mapping[str, str]
    key_hint: str = ""
    signatures: Mapping[str, str] = NOTHING
    model_name: str = ""
    extra: Mapping[str, Any] = NOTHING

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode.

        Raises:
            ContractError: naming the field.
        """
        fields = Fields(from_bytes(data, RECORD_BYTES_MAX))
        fields.schema("publication", 1)
        return cls(
            component_name=fields.text("component_name"),
            version=fields.text("version", pattern=VERSION_PATTERN),
            stamp=Stamp(
                release=fields.integer("release", minimum=1),
                created_at=fields.moment("created_at"),
                expires_at=fields.moment("expires_at"),
            ),
            digests=fields.table("digests", _as_digest),
            key_hint=fields.text("key_hint"),
            signatures=fields.table("signatures", as_text),
            model_name=fields.optional("model_name", fields.text) or "",
            extra=fields.rest(),
        )

    def to_bytes(self) -> bytes:
        """Encode; the inverse of :meth:`from_bytes`."""
        return to_bytes(self.to_document())

    def to_document(self) -> Document:
        """The JSON object."""
        return {
            **self.extra,
            "schema": schema_name("publication", 1),
            "component_name": self.component_name,
            "version": self.version,
            "release": self.stamp.release,
            "created_at": format_moment(self.stamp.created_at),
            "expires_at": format_moment(self.stamp.expires_at),
            "digests": dict(self.digests),
            "key_hint": self.key_hint,
            "signatures": dict(self.signatures),
            **({"model_name": self.model_name} if self.model_name else {}),
        }


@dataclass(frozen=True, slots=True)
class Layout:
    """Where publishing keeps things in a bucket.

    ``publications/<component>/<version>.json`` the records; ``publications/<component>/releases/<number>`` who has taken
    a release number; ``artifacts/<component>/<sha256>/<file>`` what devices download;
    ``baselines/<baseline id>.json`` the baselines that published bundles carry, for whoever reads telemetry windows;
    ``incumbents/<model>/<version>/model.onnx`` the graph in service, which a retrained model must beat.
    """

    bucket: str

    def records(self, component_name: str) -> S3Uri:
        """The prefix of a component's records."""
        return S3Uri(self.bucket, f"publications/{component_name}/")

    def record(self, component_name: str, version: str) -> S3Uri:
        """One version's record."""
        return self.records(component_name) / f"{version}.json"

    def release(self, component_name: str, number: int) -> S3Uri:
        """The claim to one release number; zero-padded, so that keys sort as numbers do."""
        return self.records(component_name) / f"releases/{number:010}"

    def artifact(self, component_name: str, sha256: str, file_name: str) -> S3Uri:
        """An immutable artifact, addressed by its digest."""
        return S3Uri(self.bucket, f"artifacts/{component_name}/{sha256}/{file_name}")

    def baseline(self, baseline_id: str) -> S3Uri:
        """A published baseline; its id is its SHA-256."""
        return S3Uri(self.bucket, f"baselines/{baseline_id}.json")

    def incumbent(self, model_name: str, version: str) -> S3Uri:
        """The graph of a published version, outside of its bundle."""
        return S3Uri(self.bucket, f"incumbents/{model_name}/{version}/{MODEL_FILE}")

    def version_of(self, uri: S3Uri) -> str | None:
        """The version whose record this is; ``None`` for any other object."""
        folder, _, name = uri.key.rpartition("/")
        is_record = name.endswith(".json") and folder.count("/") == 1 and folder.startswith("publications/")
        return name.removesuffix(".json") if is_record else None

    def number_of(self, uri: S3Uri) -> int | None:
        """The release number that this object claims; ``None`` for any other object."""
        folder, _, name = uri.key.rpartition("/")
        return int(name) if folder.endswith("/releases") and name.isdecimal() else None


def _as_digest(value: object, where: str) -> str:
    text = as_text(value, where)
    return Fields({where: text}).text(where, pattern=DIGEST_PATTERN)
