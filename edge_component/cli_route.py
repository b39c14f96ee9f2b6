"""``edgewright-edge route``: which version answers whom, read, changed in one place, and set as a whole.

Without options it shows the table, what of it this device cannot follow, and the versions that are held. Every change
is made from the table that was just read, and is refused if another one came between: run it again then.
"""

import argparse
from dataclasses import replace
from typing import Any

from edge_component.client.admin import AdminClient
from edge_component.contracts.admin import SOCKET_NAME
from edge_component.contracts.codec import Table
from edge_component.contracts.errors import ContractError
from edge_component.contracts.routes import (
    NO_RULES,
    Arm,
    BatchRule,
    ModelRules,
    RouteTable,
    ShadowRule,
    StatePair,
    table_with,
)

CHANGES = ("split", "shadow", "batch", "state", "in_flight", "queue")


def add_route(command: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    command.add_argument("model", nargs="?", help="the model whose rules are changed")
    command.add_argument(
        "--split",
        nargs="+",
        metavar="VERSION=WEIGHT",
        help="share requests out by weight among versions that take and give the same tensors; VERSION may be `active` or "
        "`previous`; such as active=90 previous=10",
    )
    command.add_argument("--shadow", metavar="VERSION=RATIO", help="show this share of the requests to another version")
    command.add_argument("--batch", metavar="ROWS=DELAY_US", help="compute requests that arrive together together")
    command.add_argument("--state", nargs="+", metavar="INPUT=OUTPUT", help="carry these tensors for each sequence")
    command.add_argument("--in-flight", type=int, metavar="COUNT", help="requests computed at once")
    command.add_argument("--queue", type=int, metavar="COUNT", help="requests that may wait for that")
    command.add_argument("--clear", action="store_true", help="remove the model's rules first")
    command.add_argument("--alias", action="append", default=[], metavar="NAME=MODEL[@VERSION]", help="another name")
    command.add_argument("--remove-alias", action="append", default=[], metavar="NAME")


def run_route(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    """Show, or change and show.

    Raises:
        ClientError: no runtime, or it refuses.
        ValueError: the arguments make no sense.
    """
    admin = AdminClient(arguments.work / SOCKET_NAME)
    found = dict(admin.route())
    table = RouteTable.read(found["table"])
    changed = changed_table(table, arguments)
    return found if changed == table else dict(admin.route(changed))


def changed_table(table: RouteTable, arguments: argparse.Namespace) -> RouteTable:
    """The table as the arguments want it; the same one if they want nothing. Pure.

    Raises:
        ValueError: naming the option.
    """
    wants_rules = arguments.clear or any(getattr(arguments, name) is not None for name in CHANGES)
    if wants_rules and not arguments.model:
        raise ValueError("name the model whose rules are to be changed")
    aliases = {name: target for name, target in table.aliases.items() if name not in arguments.remove_alias}
    aliases |= dict(_pair("--alias", text) for text in arguments.alias)
    changed = replace(table, aliases=Table(aliases))
    if wants_rules:
        rules = NO_RULES if arguments.clear else table.rules(arguments.model)
        changed = table_with(changed, arguments.model, _changed_rules(rules, arguments))
    try:
        return RouteTable.read(changed.to_document())  # as strict as the runtime will be
    except ContractError as error:
        raise ValueError(str(error)) from error


def _changed_rules(rules: ModelRules, arguments: argparse.Namespace) -> ModelRules:
    if arguments.split is not None:
        arms = (_pair("--split", text) for text in arguments.split)
        rules = replace(rules, split=tuple(Arm(version, _whole("--split", weight)) for version, weight in arms))
    if arguments.shadow is not None:
        version, ratio = _pair("--shadow", arguments.shadow)
        rules = replace(rules, shadow=ShadowRule(version, _number("--shadow", ratio)))
    if arguments.batch is not None:
        rows, delay_us = (_whole("--batch", text) for text in _pair("--batch", arguments.batch))
        rules = replace(rules, batch=BatchRule(rows, delay_us))
    if arguments.state is not None:
        rules = replace(rules, states=tuple(StatePair(*_pair("--state", text)) for text in arguments.state))
    if arguments.in_flight is not None:
        rules = replace(rules, in_flight_max=arguments.in_flight)
    if arguments.queue is not None:
        rules = replace(rules, queue_max=arguments.queue)
    return rules


def _pair(option: str, text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise ValueError(f"{option} takes two values joined by =, not {text!r}")
    return left, right


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a number") from None


def _whole(option: str, text: str) -> int:
    """Of weights and counts: 0.5 would come down to nothing, and nobody be told."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not a whole number") from None
