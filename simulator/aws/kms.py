"""KMS: moto's, narrowed to what it does as AWS does.

The failure this exists for: a signature made here that AWS would never make. moto hashes a digest once more with
``MessageType=DIGEST``, so the signature verifies nowhere else: 501. A RAW message of more than 4,096 bytes is refused by
the service model's own limit; ``tests/simulator/aws/test_kms.py`` holds both.
"""

from simulator.aws.cloud import Cloud
from simulator.aws.errors import NotRealError
from simulator.aws.operations import Call


def refuse_digests(call: Call) -> None:
    """Before Sign and Verify.

    Raises:
        NotRealError: the message is not RAW.
    """
    kind = call.parameters.get("MessageType")
    if kind not in {None, "RAW"}:
        raise NotRealError(f"kms:{call.operation} with MessageType {kind} (there is RAW)")


def install(cloud: Cloud) -> None:
    """Check before moto signs."""
    for name in ("Sign", "Verify"):
        cloud.operations.before("kms", name, refuse_digests)
