"""What publishing left in S3, for those who watch: which digest a version stands for, and the baselines.

A :class:`~cloud.fleet.desired.PublicationSource` and a :class:`~cloud.drift.ports.BaselineSource`. Both kinds of object
never change, so what was read once is kept. One thread each.
"""

from cloud.aws.s3 import ObjectStore
from cloud.drift.ports import BaselineDamagedError, BaselineUnknownError
from cloud.errors import EdgewrightError, NotFoundError
from cloud.fleet.desired import Publication
from cloud.names import is_retirement
from cloud.publishing.record import Layout, PublicationRecord
from cloud.publishing.records import model_name_of
from cloud.s3_uri import S3Uri
from edge_component.contracts.baseline import Baseline, baseline_id as id_of
from edge_component.contracts.errors import ContractError

BASELINE_COUNT_MAX = 256
"""Baselines kept in memory, some 40 kB each."""


class S3Publications:
    """Publication records."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        """Nothing is contacted until a method is called."""
        self._store = store
        self._layout = Layout(bucket)

    def find(self, component_name: str, version: str) -> Publication | None:
        """See the port. A retirement has no record of its own: the model's name is that of any other version."""
        if is_retirement(component_name, version):
            name = model_name_of(component_name, self._layout, self._store)
            return Publication(component_name, name, version, {}) if name else None
        try:
            record = PublicationRecord.from_bytes(self._store.get_bytes(self._layout.record(component_name, version)))
        except NotFoundError:
            return None
        except ContractError as error:
            raise EdgewrightError(f"the publication record of {component_name} {version}: {error}") from error
        return Publication(component_name, record.model_name, version, record.digests)


class S3Baselines:
    """Baselines by id, checked against it."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        """Nothing is contacted until a method is called."""
        self._store = store
        self._layout = Layout(bucket)
        self._known: dict[str, Baseline] = {}

    def baseline(self, baseline_id: str) -> Baseline:
        """See the port."""
        if baseline_id not in self._known:
            if len(self._known) >= BASELINE_COUNT_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[baseline_id] = self._read(baseline_id)
        return self._known[baseline_id]

    def _read(self, baseline_id: str) -> Baseline:
        uri: S3Uri = self._layout.baseline(baseline_id)
        try:
            data = self._store.get_bytes(uri)
        except NotFoundError as error:
            raise BaselineUnknownError(
                f"no published bundle carries baseline {baseline_id[:12]}",
                "Publish the model from this account, or copy its baseline to " + str(uri) + ".",
            ) from error
        if id_of(data) != baseline_id:
            raise BaselineDamagedError(f"{uri} holds other bytes than its name says", "Publish the model again.")
        try:
            return Baseline.from_bytes(data)
        except ContractError as error:
            raise BaselineDamagedError(f"{uri}: {error}", "Publish the model again.") from error
