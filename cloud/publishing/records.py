"""Find publication records, and choose a version: the reading half of what record.py describes."""

from collections.abc import Callable, Mapping

from cloud.errors import InvalidInputError, NotFoundError
from cloud.names import is_retirement
from cloud.publishing.errors import VersionConflictError
from cloud.publishing.ports import ArtifactStore, ComponentCatalog
from cloud.publishing.record import Layout, PublicationRecord
from cloud.publishing.versions import AUTO, check_version, highest_version, next_minor
from edge_component.contracts.errors import ContractError

DigestsAt = Callable[[PublicationRecord], Mapping[str, str]]
"""What today's content would be called under a record's version and stamp: platform to digest."""


def find_record(
    artifacts: ArtifactStore, layout: Layout, component_name: str, version: str
) -> PublicationRecord | None:
    """The record of a version, or ``None``.

    Raises:
        VersionConflictError: there is one, but it is not a record that this release of Edgewright can read.
    """
    uri = layout.record(component_name, version)
    try:
        return PublicationRecord.from_bytes(artifacts.get_bytes(uri))
    except NotFoundError:
        return None
    except ContractError as error:
        raise VersionConflictError(f"{uri}: {error}", "Publish under a new version.") from error


def model_name_of(component_name: str, layout: Layout, artifacts: ArtifactStore) -> str:
    """The name by which clients know a component's model, by its highest publication; empty if there is none.

    Raises:
        VersionConflictError: the record cannot be read.
    """
    record = latest_record(artifacts, layout, component_name)
    return record.model_name if record else ""


def choose_version(
    wish: str, layout: Layout, component_name: str, stores: tuple[ArtifactStore, ComponentCatalog], digests: DigestsAt
) -> str:
    """The version wished for; for ``auto`` the one that this very content has already, else the next minor one.

    Raises:
        InvalidInputError: the wish is no version, or one that is kept for retirements.
    """
    if is_retirement(component_name, wish):
        raise InvalidInputError(
            f"{wish} stands for a model's retirement, as every 0.0.<n>", "Begin with 0.1.0 or 1.0.0."
        )
    if wish != AUTO:
        return check_version(wish)
    artifacts, catalog = stores
    record = latest_record(artifacts, layout, component_name)
    if record and dict(record.digests) == dict(digests(record)):
        return record.version
    recorded = _recorded_versions(artifacts, layout, component_name)
    return next_minor([*recorded, *catalog.versions(component_name)])


def latest_record(artifacts: ArtifactStore, layout: Layout, component_name: str) -> PublicationRecord | None:
    """The record of the highest version; ``None`` where nothing is published. Raises as :func:`find_record`."""
    latest = highest_version(_recorded_versions(artifacts, layout, component_name))
    return find_record(artifacts, layout, component_name, latest) if latest else None


def _recorded_versions(artifacts: ArtifactStore, layout: Layout, component_name: str) -> list[str]:
    return [version for uri in artifacts.list(layout.records(component_name)) if (version := layout.version_of(uri))]
