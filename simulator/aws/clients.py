"""boto3 clients with which the local cloud's services use each other, through the same door as everybody else.

So a job's upload, a rule's action and a state machine's task are validated and refused exactly as a user's own call.
Thread-safe: clients are made under a lock, and boto3's clients may be shared.
"""

import threading
from typing import Any

import boto3
from botocore.config import Config

from simulator.aws.cloud import Cloud

LOCAL_CREDENTIALS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}


class LocalClients:
    """Clients of one local cloud, made on first use; usable once the cloud has been started."""

    def __init__(self, cloud: Cloud) -> None:
        """The cloud's url is read when a client is made."""
        self._cloud = cloud
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._config = Config(
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": "path"},
        )

    def __call__(self, service: str) -> Any:  # noqa: ANN401 - boto3 builds client classes at run time
        """The client of a service, by boto3's name for it."""
        with self._lock:
            if service not in self._made:
                self._made[service] = boto3.session.Session().client(
                    service,
                    endpoint_url=self._cloud.url,
                    region_name=self._cloud.region,
                    config=self._config,
                    **LOCAL_CREDENTIALS,
                )
            return self._made[service]
