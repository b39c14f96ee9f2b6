"""How SageMaker's List operations choose, sort and page; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.aws.errors import AwsError

PAGE_DEFAULT = 10
"""SageMaker's own ``MaxResults`` where none is given."""

Entry = Mapping[str, Any]


def page(
    entries: Sequence[Entry], parameters: Mapping[str, Any], *, name: str, status: str, answer: str
) -> dict[str, Any]:
    """One page of a listing.

    Args:
        entries: all summaries, each with ``CreationTime``, and ``LastModifiedTime`` where the operation filters by it.
        parameters: the List operation's.
        name: the summaries' member that ``NameContains`` and ``SortBy: Name`` mean.
        status: the one that ``StatusEquals`` means.
        answer: the answer's member.

    Raises:
        AwsError: a ``NextToken`` that is none of ours.
    """
    found = [entry for entry in entries if _wanted(entry, parameters, name, status)]
    key = {"Name": name, "Status": status}.get(parameters.get("SortBy") or "", "CreationTime")
    # Newest first by default, as SageMaker does; the name breaks ties, so that pages never overlap.
    found.sort(key=lambda entry: (entry[key], entry[name]), reverse=parameters.get("SortOrder") != "Ascending")
    start = _start(parameters.get("NextToken"))
    end = start + (parameters.get("MaxResults") or PAGE_DEFAULT)
    return {answer: found[start:end], **({"NextToken": str(end)} if end < len(found) else {})}


def _wanted(entry: Entry, parameters: Mapping[str, Any], name: str, status: str) -> bool:
    wanted_status, contained = parameters.get("StatusEquals"), parameters.get("NameContains")
    if wanted_status is not None and entry[status] != wanted_status:
        return False
    if contained is not None and contained.lower() not in entry[name].lower():
        return False
    for member in ("CreationTime", "LastModifiedTime"):
        after, before = parameters.get(f"{member}After"), parameters.get(f"{member}Before")
        if (after is not None and entry[member] <= after) or (before is not None and entry[member] >= before):
            return False
    return True


def _start(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdigit():
        raise AwsError("ValidationException", f"NextToken {token!r} is not one of this operation's")
    return int(token)
