"""From the name that people use for a model to its component: ``weather`` to ``com.edgewright.model.Weather``."""

from collections.abc import Iterable

from cloud.errors import InvalidInputError, NotFoundError
from cloud.names import MODEL_PREFIX
from cloud.publishing.ports import ArtifactStore
from cloud.s3_uri import S3Uri


def find_component(wanted: str, bucket: str, artifacts: ArtifactStore) -> str:
    """The published component that is called ``wanted``: in full, or its last part in any case and with any hyphens.

    Raises:
        NotFoundError: none is; InvalidInputError: several are.
    """
    if wanted.startswith(MODEL_PREFIX):
        return wanted
    prefix = S3Uri(bucket, f"publications/{MODEL_PREFIX}")
    published = sorted({uri.key.split("/")[1] for uri in artifacts.list(prefix)})
    return match_component(wanted, published)


def match_component(wanted: str, published: Iterable[str]) -> str:
    """The decision of :func:`find_component`. Pure."""
    names = tuple(published)
    found = [name for name in names if _plain(name.removeprefix(MODEL_PREFIX)) == _plain(wanted)]
    if len(found) > 1:
        raise InvalidInputError(f"{wanted!r} may be {' or '.join(found)}", "Write the component's full name.")
    if not found:
        raise NotFoundError(f"no model {wanted!r} is published", f"Published: {', '.join(names) or 'none'}.")
    return found[0]


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
