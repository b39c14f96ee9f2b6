"""Publish the runtime component: one archive for each platform, one immutable component version.

Idempotent as publish.py is, by the same record; there is nothing to sign, since Greengrass checks the archive's digest
and what devices verify are the models.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cloud.names import RUNTIME_COMPONENT
from cloud.publishing.bundle import Stamp
from cloud.publishing.component_release import CONFLICT_REMEDY, ComponentRelease, Upload, release_component
from cloud.publishing.errors import VersionConflictError
from cloud.publishing.publication import PublishingPorts
from cloud.publishing.recipe import RUNTIME_TEMPLATE, RuntimeRecipe, runtime_recipe
from cloud.publishing.record import Layout, PublicationRecord
from cloud.publishing.records import choose_version, find_record
from cloud.publishing.releases import claim_release
from cloud.publishing.runtime_artifact import RuntimeParts, runtime_archive_name, write_runtime_archive
from cloud.publishing.wheels import Wanted, constraints_for, default_cache, device_requirements, wheelhouse
from cloud.settings import checkout_root
from edge_component.contracts.codec import Document
from edge_component.contracts.topics import DEFAULT_RULE

NO_EXPIRY = timedelta(days=36_500)
"""A runtime does not expire; records carry a time all the same."""


@dataclass(frozen=True, slots=True)
class RuntimeRequest:
    """What to publish.

    Attributes:
        version: semantic version, or ``auto``.
        bucket: where records and artifacts go.
        platforms, python_versions: what the devices are.
        public_keys: PEM; whose models the devices activate.
        ingest_rule: the IoT rule that devices publish to.
        wheel_cache: where wheels are kept between runs.
        source: the checkout: ``edge_component/``, ``pyproject.toml`` and ``requirements.lock`` are read from it.
        with_grpc: whether the devices get what the gRPC doors need.
    """

    version: str
    bucket: str
    platforms: tuple[str, ...]
    python_versions: tuple[str, ...]
    public_keys: tuple[bytes, ...]
    ingest_rule: str = DEFAULT_RULE
    wheel_cache: Path = field(default_factory=default_cache)
    source: Path = field(default_factory=checkout_root)
    with_grpc: bool = False


@dataclass(frozen=True, slots=True)
class RuntimePublication:
    """A runtime version that can be deployed; ``archives`` is platform to S3 URI."""

    version: str
    component_arn: str
    archives: Mapping[str, str]

    def to_document(self) -> Document:
        """As JSON."""
        return {
            "component_name": RUNTIME_COMPONENT,
            "version": self.version,
            "component_arn": self.component_arn,
            "archives": dict(self.archives),
        }


@dataclass(frozen=True, slots=True)
class _Archive:
    platform: str
    path: Path
    sha256: str


def publish_runtime(request: RuntimeRequest, ports: PublishingPorts) -> RuntimePublication:
    """Publish, or complete what an earlier run began.

    Raises:
        WheelsUnavailableError, SigningKeyError, RecipeInvalidError: nothing was uploaded.
        VersionConflictError: the version exists with other content; nothing was uploaded.
        UnavailableError: a service went away; running the same again completes it.
    """
    stores = (ports.artifacts, ports.catalog)
    with tempfile.TemporaryDirectory(prefix="edgewright-runtime-") as scratch:
        archives = tuple(_build(request, platform, Path(scratch), ports) for platform in sorted(set(request.platforms)))
        digests = {archive.platform: archive.sha256 for archive in archives}
        layout = Layout(request.bucket)
        version = choose_version(request.version, layout, RUNTIME_COMPONENT, stores, lambda _: digests)
        release = _component(request, version, archives, ports)
        _claim(layout, version, digests, ports)
        component = release_component(release, ports.artifacts, ports.catalog, ports.report, ports.patience)
    uris = {archive.platform: str(upload.uri) for archive, upload in zip(archives, release.uploads, strict=True)}
    return RuntimePublication(version, component.arn, uris)


def _component(
    request: RuntimeRequest, version: str, archives: tuple[_Archive, ...], ports: PublishingPorts
) -> ComponentRelease:
    layout = Layout(request.bucket)
    uploads = {
        archive.platform: Upload(
            layout.artifact(RUNTIME_COMPONENT, archive.sha256, runtime_archive_name(version, archive.platform)),
            archive.path,
        )
        for archive in archives
    }
    uris = {platform: str(upload.uri) for platform, upload in uploads.items()}
    template = (ports.recipes / RUNTIME_TEMPLATE).read_text()
    recipe = runtime_recipe(template, RuntimeRecipe(version, uris, request.ingest_rule))
    return ComponentRelease(RUNTIME_COMPONENT, version, tuple(uploads.values()), recipe)


def _build(request: RuntimeRequest, platform: str, scratch: Path, ports: PublishingPorts) -> _Archive:
    needed = device_requirements((request.source / "pyproject.toml").read_text(), with_grpc=request.with_grpc)
    lock = (request.source / "requirements.lock").read_text()
    houses = []
    for done_count, python_version in enumerate(request.python_versions):
        ports.report(f"wheels for {platform}, Python {python_version}", done_count, len(request.python_versions))
        wanted = Wanted(platform, python_version, needed, constraints_for(lock, python_version))
        houses.append(wheelhouse(wanted, request.wheel_cache))
    parts = RuntimeParts(request.source / "edge_component", request.public_keys, tuple(houses))
    path = scratch / f"{platform.replace('/', '-')}.zip"
    return _Archive(platform, path, write_runtime_archive(parts, path))


def _claim(layout: Layout, version: str, digests: Mapping[str, str], ports: PublishingPorts) -> None:
    """Write the record that makes this version mean these archives, unless it does already."""
    record = find_record(ports.artifacts, layout, RUNTIME_COMPONENT, version)
    if record is None:
        release = claim_release(layout, RUNTIME_COMPONENT, version, ports.artifacts)
        now = ports.now()
        mine = PublicationRecord(RUNTIME_COMPONENT, version, Stamp(release, now, now + NO_EXPIRY), digests)
        if ports.artifacts.put_new(layout.record(RUNTIME_COMPONENT, version), mine.to_bytes()):
            return
        record = find_record(ports.artifacts, layout, RUNTIME_COMPONENT, version)
    if record is None or dict(record.digests) != dict(digests):
        raise VersionConflictError(f"{RUNTIME_COMPONENT} {version} exists with other content", CONFLICT_REMEDY)
