"""How every command prints: a table for people, JSON for scripts, errors with their remedy on standard error.

Results go to standard output and nothing else does, so that ``edgewright … -o json | jq`` always works.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from io import StringIO
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cloud.errors import EdgewrightError


class OutputFormat(StrEnum):
    """What ``-o`` takes."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    OutputFormat, typer.Option("--output", "-o", help="table for people, json for scripts.", show_default=True)
]

PIPED_COLUMNS = 10_000
"""A table is as wide as its content; this only keeps it from being folded."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys instead of showing it; a line's end and a tabulator aside."""

MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z")
"""A table's reader needs no microseconds, and a terminal of 80 columns has no room for them; JSON keeps them."""

progress_console = Console(stderr=True)
"""For progress and notes; never for results."""


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], output: OutputFormat) -> None:
    """Print a list: the named columns as a table, or every field as a JSON array."""
    if output is OutputFormat.JSON:
        print_json(list(rows))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")  # an id cut short is of no use
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    _print_table(table)


def print_fields(document: Mapping[str, Any], output: OutputFormat) -> None:
    """Print one thing: its fields below each other, or as one JSON object."""
    if output is OutputFormat.JSON:
        print_json(document)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in document.items():
        table.add_row(name.replace("_", " "), _cell(value))
    _print_table(table)


def print_json(value: object) -> None:
    """Print JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_error(error: EdgewrightError) -> None:
    """The sentence with its stable code, and the remedy, on standard error; no line is broken, so that URIs can be copied."""
    code = escape(f"[{error.code}]")
    progress_console.print(f"[bold red]error{code}:[/] {shown(str(error))}", highlight=False, soft_wrap=True)
    if error.remedy:
        progress_console.print(f"[bold]remedy:[/] {shown(error.remedy)}", highlight=False, soft_wrap=True)


def _print_table(table: Table) -> None:
    """On standard output; where that is no terminal nothing is folded or padded, so that names can be cut out."""
    if sys.stdout.isatty():
        Console().print(table)
        return
    text = StringIO()
    Console(file=text, width=PIPED_COLUMNS).print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        separator = "\n" if any(isinstance(entry, Mapping) for entry in value) else ", "
        return separator.join(_cell(entry) for entry in value)
    if isinstance(value, Mapping):
        told = {name: entry for name, entry in value.items() if entry not in (None, "", [])}
        return "; ".join(f"{shown(name.replace('_', ' '))}: {_cell(entry)}" for name, entry in told.items())
    moment = MOMENT.fullmatch(str(value))
    return f"{moment[1]}Z" if moment else shown(str(value))


def shown(text: str) -> str:
    """Text of others (devices, scripts, AWS) for a terminal: nothing in it is markup, and nothing is obeyed."""
    return escape(CONTROL.sub("\ufffd", text))
