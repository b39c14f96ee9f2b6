"""Reads the local cloud's own S3 objects, for services that must look into them (artifacts, job documents).

Goes to moto's backend directly, since a service of the cloud needs no request of its own. Safe from any thread.
"""

import base64
import hashlib
import re

from moto.s3.exceptions import S3ClientError
from moto.s3.models import s3_backends

from simulator.aws.cloud import Cloud
from simulator.aws.errors import AwsError

_URI = re.compile(r"s3://(?P<bucket>[^/]+)/(?P<key>.+)")
_URL = re.compile(r"https?://(?:s3[.-][^/]*|127\.0\.0\.1:\d+)/(?P<bucket>[^/]+)/(?P<key>.+)")


class S3Objects:
    """The objects of the local account."""

    def __init__(self, cloud: Cloud) -> None:
        """Reads nothing yet."""
        self._cloud = cloud

    def read(self, bucket: str, key: str) -> bytes | None:
        """An object's bytes, or ``None`` if it does not exist."""
        try:
            found = s3_backends[self._cloud.account_id]["aws"].get_object(bucket, key)
        except S3ClientError:
            return None
        return None if found is None else bytes(found.value)

    def read_url(self, source: str) -> bytes:
        """An object by ``s3://`` URI or path-style URL.

        Raises:
            AwsError: ``InvalidRequestException``: not such a URL, or nothing there.
        """
        match = _URI.fullmatch(source) or _URL.fullmatch(source)
        content = self.read(match["bucket"], match["key"]) if match else None
        if content is None:
            raise AwsError("InvalidRequestException", f"documentSource: nothing to read at {source}")
        return content

    def greengrass_digest(self, uri: str) -> str | None:
        """Base64 of the SHA-256 of the object at an ``s3://`` URI, as recipes carry it; ``None`` if there is none."""
        match = _URI.fullmatch(uri)
        content = self.read(match["bucket"], match["key"]) if match else None
        return None if content is None else base64.b64encode(hashlib.sha256(content).digest()).decode()
