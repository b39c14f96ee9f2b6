"""Pages of a list: the token is the position, which is right for lists that only grow at one end or rarely change."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.aws.errors import AwsError

PAGE_ITEMS_DEFAULT = 100


def page(
    member: str, items: Sequence[Any], parameters: Mapping[str, Any], refusal_code: str = "InvalidRequestException"
) -> dict[str, Any]:
    """One page as a result: ``{member: [...], "nextToken": ...}`` by ``maxResults`` and ``nextToken``.

    Raises:
        AwsError: ``refusal_code`` for a token that no earlier page gave.
    """
    token = parameters.get("nextToken") or "0"
    if not token.isdigit() or int(token) > len(items):
        raise AwsError(refusal_code, f"nextToken: {token!r} is not one of ours")
    start = int(token)
    end = start + int(parameters.get("maxResults") or PAGE_ITEMS_DEFAULT)
    return {member: list(items[start:end]), "nextToken": str(end) if end < len(items) else None}
