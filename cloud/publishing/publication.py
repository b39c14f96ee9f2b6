"""What is asked of a publication, what it touches, and what comes of it: values only. The doing is in publish.py."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cloud.publishing.component_release import Patience
from cloud.publishing.ports import ArtifactStore, ComponentCatalog, Report, silent
from cloud.publishing.recipe import RUNTIME_REQUIREMENT
from cloud.settings import checkout_root
from edge_component.contracts.codec import Document, format_moment


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """What to publish.

    Attributes:
        folder: a compilation folder.
        version: semantic version, or ``auto``: the next minor one, or the one that this very content has already.
        bucket: where records and artifacts go.
        validity: how long devices may activate it, from now.
        runtime_requirement: range of runtime versions that the component depends on (SOFT).
    """

    folder: Path
    version: str
    bucket: str
    validity: timedelta = timedelta(days=365)
    runtime_requirement: str = RUNTIME_REQUIREMENT


@dataclass(frozen=True, slots=True)
class PublishingPorts:
    """What publishing touches beside the signing key; each field can be replaced by a fake."""

    artifacts: ArtifactStore
    catalog: ComponentCatalog
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    report: Report = silent
    patience: Patience = field(default_factory=Patience)
    recipes: Path = field(default_factory=lambda: checkout_root() / "recipes")
    handover: Path = field(default_factory=lambda: checkout_root() / "edge_component/contracts/handover.py")


@dataclass(frozen=True, slots=True)
class PublishedBundle:
    """One platform's share of a publication; ``digest`` is the bundle's identity. SHA-256 in hex, both."""

    platform: str
    precision: str
    digest: str
    archive_uri: str
    archive_sha256: str


@dataclass(frozen=True, slots=True)
class Publication:
    """A model version that can be deployed."""

    component_name: str
    model_name: str
    version: str
    release: int
    component_arn: str
    record_uri: str
    expires_at: datetime
    bundles: tuple[PublishedBundle, ...]

    def to_document(self) -> Document:
        """As JSON: what ``-o json`` prints and the retraining stage leaves behind."""
        return {
            "component_name": self.component_name,
            "model_name": self.model_name,
            "version": self.version,
            "release": self.release,
            "component_arn": self.component_arn,
            "record_uri": self.record_uri,
            "expires_at": format_moment(self.expires_at),
            "bundles": [
                {
                    "platform": bundle.platform,
                    "precision": bundle.precision,
                    "digest": bundle.digest,
                    "archive_uri": bundle.archive_uri,
                    "archive_sha256": bundle.archive_sha256,
                }
                for bundle in self.bundles
            ],
        }
