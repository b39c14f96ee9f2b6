"""A service's request as a Step Functions ``Parameters`` block. Pure.

Step Functions fills in a value only where its key ends in ``.$``. So requests are rendered once, by the builders that
the command line uses; where a machine knows a text only when it runs, that text is a JSONPath (``$.…``) or an intrinsic
function (``States.…``), and its key gets the suffix here. Single elements of a list cannot be filled in.
"""

from collections.abc import Mapping
from typing import Any

RUN_TIME_PREFIXES = ("$.", "$$.", "States.")


def state_parameters(request: Mapping[str, Any]) -> dict[str, Any]:
    """The same request, keys of run-time values marked; without any it is the request itself."""
    return {f"{key}.$" if _is_known_at_run_time(value) else key: _marked(value) for key, value in request.items()}


def _marked(value: Any) -> Any:  # noqa: ANN401 - whatever a request holds
    if isinstance(value, Mapping):
        return state_parameters(value)
    if isinstance(value, list):
        return [_marked(element) for element in value]
    return value


def _is_known_at_run_time(value: object) -> bool:
    return isinstance(value, str) and value.startswith(RUN_TIME_PREFIXES)
