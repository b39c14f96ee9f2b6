"""Every command's help has examples, and each is one that the command line takes."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from cloud.cli.app import app as edgewright
from simulator.cli import app as edgewright_sim
from simulator.up import BROKER_VARIABLE

PROGRAMS = {"edgewright": typer.main.get_command(edgewright), "edgewright-sim": typer.main.get_command(edgewright_sim)}


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, below in command.commands.items():
        yield from leaves(f"{name} {word}", below)


COMMANDS = dict(leaf for program, command in PROGRAMS.items() for leaf in leaves(program, command))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_that_the_command_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BROKER_VARIABLE, "broker.json")  # as after sourcing what `edgewright-sim up` wrote
    command = COMMANDS[name]
    described, _, examples = command.help.partition("For example:")
    assert described.strip()
    told = [command.help, *(option.help for option in command.params if getattr(option, "help", None))]
    assert not [text for text in told if re.search(r"\[[a-z/#@]", text)], (
        "rich takes it for markup, and shows nothing of it"
    )
    lines = [" ".join(line.split()) for line in examples.split("\n\n") if line.strip()]
    assert lines
    for line in lines:
        words = shlex.split(line)
        while "=" in words[0]:
            del words[0]  # a variable set for this command alone
        assert " ".join(words).startswith(name)
        command.make_context(name, words[len(name.split()) :])
