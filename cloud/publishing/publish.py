"""Publish a compiled model: one signed bundle per platform, one immutable component version.

The failure this exists for: a publish that dies half-way and cannot be finished, or finishes with other bytes. The order
is: read and check the folder; choose the version; check the recipe; write the publication record (release, times,
signatures); upload; create the component version. Whatever the step it dies at, the same command completes it; the same
version with other content is refused before anything is uploaded.

Any number of publishers may run at once: a release number and a version are each claimed by an atomic write.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cloud.compilation.result import Compilation
from cloud.digests import file_sha256
from cloud.publishing.bundle import Bundle, Contents, Stamp, archive_name, make_bundle, read_contents, write_bundle
from cloud.publishing.component_release import CONFLICT_REMEDY, ComponentRelease, Upload, release_component
from cloud.publishing.errors import ComponentTakenError, VersionConflictError
from cloud.publishing.publication import Publication, PublishedBundle, PublishingPorts, PublishRequest
from cloud.publishing.recipe import MODEL_TEMPLATE, ModelArtifacts, ModelRecipe, model_recipe
from cloud.publishing.record import Layout, PublicationRecord
from cloud.publishing.records import choose_version, find_record, latest_record
from cloud.publishing.releases import claim_release
from cloud.publishing.signing import Signer, key_hint, sign_files
from cloud.s3_uri import S3Uri
from edge_component.contracts.manifest import BASELINE_FILE, HANDOVER_FILE, MODEL_FILE

NO_DIGEST = "0" * 64
"""Stands for an archive's digest where only the recipe's shape is checked."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A request, and what its folder holds."""

    request: PublishRequest
    compilation: Compilation
    contents: tuple[Contents, ...]

    @property
    def name(self) -> str:
        return self.compilation.component_name

    @property
    def layout(self) -> Layout:
        return Layout(self.request.bucket)

    def bundles(self, version: str, stamp: Stamp) -> tuple[Bundle, ...]:
        return tuple(make_bundle(self.compilation, contents, version, stamp) for contents in self.contents)

    def digests(self, record: PublicationRecord) -> dict[str, str]:
        return _digests(self.bundles(record.version, record.stamp))


def publish_model(request: PublishRequest, signer: Signer, ports: PublishingPorts) -> Publication:
    """Publish, or complete what an earlier run began.

    Raises:
        CompilationIncompleteError, SigningKeyError, StatementTooLargeError, RecipeInvalidError: nothing was uploaded.
        ComponentTakenError: the component carries a model of another name; nothing was uploaded.
        VersionConflictError: the version exists with other content or another key; nothing was uploaded.
        ComponentFailedError: everything is in place, but Greengrass will not deploy it.
        UnavailableError: a service went away, or Greengrass takes long; running the same again completes it.
    """
    draft = _Draft(request, *read_contents(request.folder))
    _require_own_component(draft, ports)
    version = choose_version(request.version, draft.layout, draft.name, (ports.artifacts, ports.catalog), draft.digests)
    record = find_record(ports.artifacts, draft.layout, draft.name, version) or _write_record(
        draft, version, signer, ports
    )
    bundles = draft.bundles(version, record.stamp)
    _check_same(draft, record, bundles, signer)
    with tempfile.TemporaryDirectory(prefix="edgewright-publish-") as scratch:
        return _release(draft, record, bundles, Path(scratch), ports)


def _require_own_component(draft: _Draft, ports: PublishingPorts) -> None:
    """``f-64`` and ``f64`` are one component, com.edgewright.model.F64: the second would take the first one's devices."""
    latest = latest_record(ports.artifacts, draft.layout, draft.name)
    wanted = draft.compilation.model_name
    if latest is not None and latest.model_name not in ("", wanted):
        raise ComponentTakenError(
            f"{draft.name} carries the model {latest.model_name!r} already, not {wanted!r}",
            f"Publish it as {latest.model_name!r}, or choose a name that differs in more than its hyphens.",
        )


def _write_record(draft: _Draft, version: str, signer: Signer, ports: PublishingPorts) -> PublicationRecord:
    """Fix everything that varies by itself. If somebody was faster, theirs is returned, and compared by the caller."""
    if ports.catalog.find(draft.name, version) is not None:
        raise VersionConflictError(
            f"{draft.name} {version} exists, but {draft.layout.record(draft.name, version)} does not", CONFLICT_REMEDY
        )
    _recipe(draft, version, {contents.variant.platform: NO_DIGEST for contents in draft.contents}, ports)
    record = _signed_record(draft, version, signer, ports)
    uri = draft.layout.record(draft.name, version)
    if ports.artifacts.put_new(uri, record.to_bytes()):
        return record
    return PublicationRecord.from_bytes(ports.artifacts.get_bytes(uri))


def _signed_record(draft: _Draft, version: str, signer: Signer, ports: PublishingPorts) -> PublicationRecord:
    ports.report("signing", 0, 1)
    public_key = signer.public_key_pem()
    created_at = ports.now()
    release = claim_release(draft.layout, draft.name, version, ports.artifacts)
    stamp = Stamp(release, created_at, created_at + draft.request.validity)
    bundles = draft.bundles(version, stamp)
    return PublicationRecord(
        component_name=draft.name,
        version=version,
        stamp=stamp,
        digests=_digests(bundles),
        key_hint=key_hint(public_key),
        signatures={
            bundle.platform: sign_files(signer, f"{draft.name}-{version}", bundle.digests).decode()
            for bundle in bundles
        },
        model_name=draft.compilation.model_name,
    )


def _check_same(draft: _Draft, record: PublicationRecord, bundles: tuple[Bundle, ...], signer: Signer) -> None:
    if dict(record.digests) != _digests(bundles):
        raise VersionConflictError(f"{draft.name} {record.version} exists with other content", CONFLICT_REMEDY)
    if record.key_hint != key_hint(signer.public_key_pem()):
        raise VersionConflictError(f"{draft.name} {record.version} is signed with another key", CONFLICT_REMEDY)


def _release(
    draft: _Draft,
    record: PublicationRecord,
    bundles: tuple[Bundle, ...],
    scratch: Path,
    ports: PublishingPorts,
) -> Publication:
    version = record.version
    digests: dict[str, str] = {}
    uploads = [Upload(_handover_uri(draft, ports), ports.handover), *_baseline_upload(draft, bundles[0])]
    for bundle in bundles:
        path = scratch / archive_name(draft.name, version, bundle.platform)
        digest = write_bundle(bundle, record.signatures[bundle.platform].encode(), path)
        digests[bundle.platform] = digest
        uploads.append(Upload(draft.layout.artifact(draft.name, digest, path.name), path))
    uploads.append(_incumbent_upload(draft, bundles[-1], version))
    recipe = _recipe(draft, version, digests, ports)
    release = ComponentRelease(draft.name, version, tuple(uploads), recipe)
    component = release_component(release, ports.artifacts, ports.catalog, ports.report, ports.patience)
    return Publication(
        component_name=draft.name,
        model_name=draft.compilation.model_name,
        version=version,
        release=record.stamp.release,
        component_arn=component.arn,
        record_uri=str(draft.layout.record(draft.name, version)),
        expires_at=record.stamp.expires_at,
        bundles=tuple(_published(draft, version, bundle, digests[bundle.platform]) for bundle in bundles),
    )


def _baseline_upload(draft: _Draft, bundle: Bundle) -> list[Upload]:
    """The baseline, which all platforms share, where it can be found by the id that telemetry windows carry."""
    path = bundle.files.get(BASELINE_FILE)
    return [Upload(draft.layout.baseline(bundle.digests[BASELINE_FILE]), path)] if path else []


def _incumbent_upload(draft: _Draft, bundle: Bundle, version: str) -> Upload:
    """The graph that a successor has to beat: the one for the platform that jobs run on (the last by name: x86-64)."""
    return Upload(draft.layout.incumbent(draft.compilation.model_name, version), bundle.files[MODEL_FILE])


def _recipe(draft: _Draft, version: str, digests: dict[str, str], ports: PublishingPorts) -> bytes:
    handover_uri = str(_handover_uri(draft, ports))
    wanted = ModelRecipe(
        component_name=draft.name,
        version=version,
        description=f"Edgewright model {draft.compilation.model_name}",
        runtime_requirement=draft.request.runtime_requirement,
        artifacts=tuple(
            ModelArtifacts(platform, _archive_uri(draft, version, platform, digest), handover_uri)
            for platform, digest in sorted(digests.items())
        ),
    )
    return model_recipe((ports.recipes / MODEL_TEMPLATE).read_text(), wanted)


def _published(draft: _Draft, version: str, bundle: Bundle, archive_sha256: str) -> PublishedBundle:
    uri = _archive_uri(draft, version, bundle.platform, archive_sha256)
    return PublishedBundle(bundle.platform, bundle.precision, bundle.digest, uri, archive_sha256)


def _archive_uri(draft: _Draft, version: str, platform: str, digest: str) -> str:
    return str(draft.layout.artifact(draft.name, digest, archive_name(draft.name, version, platform)))


def _handover_uri(draft: _Draft, ports: PublishingPorts) -> S3Uri:
    return draft.layout.artifact(draft.name, file_sha256(ports.handover), HANDOVER_FILE)


def _digests(bundles: tuple[Bundle, ...]) -> dict[str, str]:
    return {bundle.platform: bundle.digest for bundle in bundles}
