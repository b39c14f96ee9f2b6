"""Release numbers: monotonic per component, claimed by an atomic write, so that no two versions share one.

The failure this exists for: two publishers who both read "the highest is 6" and both publish release 7, after which a
device can be moved back and forth between them. A claim whose publication never came about leaves a gap: numbers only
grow, they need not be dense.
"""

from cloud.errors import ConflictError
from cloud.publishing.ports import ArtifactStore
from cloud.publishing.record import Layout

ATTEMPTS = 20


def claim_release(layout: Layout, component_name: str, version: str, artifacts: ArtifactStore) -> int:
    """The next number, or the highest one if this version has claimed it in an earlier run that got no further.

    Raises:
        ConflictError: other publishers were faster twenty times in a row.
    """
    for _ in range(ATTEMPTS):
        highest = _highest_claim(layout, component_name, artifacts)
        if highest and artifacts.get_bytes(layout.release(component_name, highest)) == version.encode():
            return highest
        if artifacts.put_new(layout.release(component_name, highest + 1), version.encode()):
            return highest + 1
    raise ConflictError(
        f"{component_name}: every release number was taken by somebody else", "Run the same command again."
    )


def _highest_claim(layout: Layout, component_name: str, artifacts: ArtifactStore) -> int:
    claims = (layout.number_of(uri) for uri in artifacts.list(layout.records(component_name)))
    return max((number for number in claims if number is not None), default=0)
