"""The command ``edgewright``: what commands there are, and how an error leaves the program."""

import errno
import sys
import tempfile
from importlib.metadata import version
from typing import Annotated

import typer

from cloud.cli.compile import compile_model
from cloud.cli.deploy import deploy
from cloud.cli.fleet import fleet
from cloud.cli.get import describe, get
from cloud.cli.keys import keys
from cloud.cli.output import print_error
from cloud.cli.publish import publish, publish_runtime
from cloud.cli.serve import serve
from cloud.cli.setup import setup
from cloud.cli.train import train
from cloud.cli.undeploy import undeploy
from cloud.errors import EdgewrightError, InvalidInputError, LocalFileError
from edge_component.contracts.errors import ContractError

app = typer.Typer(
    name="edgewright",
    help="Carry models from SageMaker to AWS IoT Greengrass devices, and back when they no longer fit the world.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 refused input or model, 4 conflict or not found, 5 unavailable (run it again), "
    "130 Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"edgewright {version('edgewright')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version


app.command()(train)
app.command("compile")(compile_model)
app.command()(publish)
app.command()(publish_runtime)
app.command()(deploy)
app.command()(undeploy)
app.add_typer(keys)
app.command()(setup)
app.command()(serve)
app.add_typer(fleet)
app.add_typer(get)
app.add_typer(describe)


def main() -> None:
    """Entry point.

    Exit codes: 0 done, 2 usage, 3 refused input, 4 conflict or not found, 5 unavailable, 130 Ctrl-C, 1 the rest.
    """
    try:
        app()
    except EdgewrightError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except ContractError as error:
        refused = InvalidInputError(str(error), "Correct the named field.")
        print_error(refused)
        sys.exit(refused.exit_code)
    except OSError as error:
        local = _local_file_error(error)
        if local is None:
            raise
        print_error(local)
        sys.exit(local.exit_code)


def _local_file_error(error: OSError) -> LocalFileError | None:
    """What a user can mend; ``None`` for what has nothing to do with files, and is a defect of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or f"{tempfile.gettempdir()}, or where the result is written"
        remedy = (
            "Free some space, or choose another place for temporary files by TMPDIR; then run the same command again."
        )
        return LocalFileError(f"{where}: {error.strerror}", remedy)
    if error.filename is None:
        return None
    return LocalFileError(f"{error.filename}: {error.strerror}", "Check the path, and who may read and write there.")


if __name__ == "__main__":
    main()
