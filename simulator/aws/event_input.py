"""What a rule's target receives: the event, a part of it, a constant, or a template filled from it. Pure.

Source: EventBridge user guide, "Transforming target input". In a template, ``<name>`` outside of a JSON string stands for
the value as JSON, and within one for its bare text. Not the matching of events (:mod:`simulator.aws.events`).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulator.aws.json_types import Json
from simulator.errors import SimulatorError

_STEP = re.compile(r"\.(?P<name>[A-Za-z0-9_-]+)|\[(?P<index>\d+)\]|\['(?P<quoted>[^']+)'\]")
_PLACEHOLDER = re.compile(r"<(?P<name>[A-Za-z0-9._-]+)>")
RULE_ARN, RULE_NAME, WHOLE_EVENT = "aws.events.rule-arn", "aws.events.rule-name", "aws.events.event.json"


class TargetInputError(SimulatorError):
    """An input path or template that EventBridge would refuse."""


def target_input(target: Mapping[str, Any], event: Mapping[str, Any], rule_arn: str) -> str:
    """The text that a target receives for an event.

    Raises:
        TargetInputError: the target's path or template is malformed; :func:`check_target` finds it beforehand.
    """
    if target.get("Input") is not None:
        return str(target["Input"])
    if target.get("InputPath") is not None:
        return json.dumps(at_path(target["InputPath"], event))
    if target.get("InputTransformer") is not None:
        return _transformed(target["InputTransformer"], event, rule_arn)
    return json.dumps(event)


def check_target(target: Mapping[str, Any]) -> None:
    """Find what :func:`target_input` would stumble over.

    Raises:
        TargetInputError: naming it.
    """
    if sum(target.get(name) is not None for name in ("Input", "InputPath", "InputTransformer")) > 1:
        raise TargetInputError("only one of Input, InputPath and InputTransformer may be set")
    transformer = target.get("InputTransformer") or {}
    paths = transformer.get("InputPathsMap") or {}
    for path in (target.get("InputPath"), *paths.values()):
        if path is not None:
            _steps(path)
    known = {*paths, RULE_ARN, RULE_NAME, WHOLE_EVENT}
    for match in _PLACEHOLDER.finditer(transformer.get("InputTemplate") or ""):
        if match["name"] not in known:
            raise TargetInputError(f"the input template uses <{match['name']}>, which InputPathsMap does not define")


def at_path(path: str, event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The value at ``$.a.b[0]``; ``None`` where the event has none.

    Raises:
        TargetInputError: not such a path.
    """
    value: Any = event
    for step in _steps(path):
        if isinstance(step, int):
            value = value[step] if isinstance(value, Sequence) and step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _steps(path: str) -> list[str | int]:
    if not path.startswith("$") or _STEP.sub("", path[1:]):
        raise TargetInputError(f"{path!r} is not a path such as $.detail.status")
    return [
        int(match["index"]) if match["index"] is not None else match["name"] or match["quoted"]
        for match in _STEP.finditer(path[1:])
    ]


def _transformed(transformer: Mapping[str, Any], event: Mapping[str, Any], rule_arn: str) -> str:
    values = {name: at_path(path, event) for name, path in (transformer.get("InputPathsMap") or {}).items()}
    values |= {RULE_ARN: rule_arn, RULE_NAME: rule_arn.rpartition("/")[2], WHOLE_EVENT: event}
    return "".join(
        text if name is None else _filled(values.get(name), within_string=within_string)
        for text, name, within_string in _pieces(transformer["InputTemplate"])
    )


def _pieces(template: str) -> Iterator[tuple[str, str | None, bool]]:
    """The template's texts and placeholders in order, each with whether a JSON string is open there."""
    position, within_string = 0, False
    for match in _PLACEHOLDER.finditer(template):
        text = template[position : match.start()]
        within_string ^= len(re.findall(r'(?<!\\)"', text)) % 2 == 1
        yield text, None, within_string
        yield "", match["name"], within_string
        position = match.end()
    yield template[position:], None, within_string


def _filled(value: Json, *, within_string: bool) -> str:
    if not within_string:
        return json.dumps(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text)[1:-1]
