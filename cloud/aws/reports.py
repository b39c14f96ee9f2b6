"""Drift reports in S3: ``reports/<name>``; a :class:`~cloud.drift.ports.ReportSink`."""

from cloud.aws.s3 import ObjectStore
from cloud.s3_uri import S3Uri


class S3Reports:
    """Below one prefix of one bucket."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        """Nothing is contacted until a method is called."""
        self._store = store
        self._prefix = S3Uri(bucket, "reports")

    def write(self, name: str, data: bytes) -> None:
        """See the port."""
        self._store.put_bytes(self._prefix / name, data)
