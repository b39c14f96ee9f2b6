"""Every command's help has examples, and each is one that the command line takes."""

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cloud.cli.app import app as edgewright
from simulator.cli import app as edgewright_sim
from simulator.up import BROKER_VARIABLE

CLI = CliRunner()
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


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.startswith("edgewright ")])
def test_help_shows_every_word_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in square brackets is markup to the library that prints it, and vanishes."""
    monkeypatch.setenv("COLUMNS", "100")
    shown = CLI.invoke(edgewright, [*name.split()[1:], "--help"])
    assert shown.exit_code == 0
    assert set(COMMANDS[name].help.split()) <= set(shown.output.split())


def test_the_version_is_told() -> None:
    shown = CLI.invoke(edgewright, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"edgewright {version('edgewright')}\n")


def test_exit_codes_are_told_where_scripts_are_written() -> None:
    shown = CLI.invoke(edgewright, ["--help"])
    assert "5 unavailable (run it again)" in " ".join(shown.output.split())
