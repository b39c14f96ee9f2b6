"""``edgewright keys``: make a signing key, and show the half of it that devices trust."""

from pathlib import Path
from typing import Annotated

import typer

from cloud.aws.session import AwsSession
from cloud.cli.output import OutputFormat, OutputOption, print_fields
from cloud.errors import InvalidInputError
from cloud.publishing.keys import create_key, kms_name, signer_for
from cloud.publishing.signing import key_hint
from cloud.settings import Settings

keys = typer.Typer(name="keys", help="Signing keys: P-256, in AWS KMS or in a PEM file.", no_args_is_help=True)


@keys.command()
def create(
    alias: Annotated[str, typer.Option(help="Make it in AWS KMS under this alias.")] = "",
    file: Annotated[Path | None, typer.Option(help="Make it in this new PEM file.")] = None,
    public: Annotated[Path | None, typer.Option(help="Also write the public key here.")] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a signing key; without options the one that EDGEWRIGHT_SIGNING_KEY names.

    A KMS alias that exists is kept as it is; a file that exists is never overwritten.

    For example:

      edgewright keys create

      edgewright keys create --alias edgewright

      edgewright keys create --file signing.pem --public signing.pub
    """
    if alias and file:
        raise InvalidInputError("a key is made either in KMS or in a file", "Give --alias NAME or --file KEY.pem.")
    settings = Settings.from_environment()
    name = kms_name(alias) if alias else str(file or settings.signing_key)
    made = create_key(name, AwsSession(settings.region))
    if public is not None:
        _write(public, made.public_key_pem)
    print_fields({"key": made.name, "is_new": made.is_new, "hint": key_hint(made.public_key_pem)}, output)


@keys.command()
def export(
    key: Annotated[str, typer.Option(help="Default: EDGEWRIGHT_SIGNING_KEY.")] = "",
    to: Annotated[Path | None, typer.Option(help="File to write. Default: standard output.")] = None,
) -> None:
    """Write the public key, for `model_signing verify key` and for `edgewright publish-runtime --trust`.

    The private half never leaves KMS.

    For example:

      edgewright keys export --key kms:alias/edgewright --to edgewright.pub
    """
    settings = Settings.from_environment()
    pem = signer_for(key or settings.signing_key, AwsSession(settings.region)).public_key_pem()
    if to is None:
        typer.echo(pem.decode(), nl=False)
    else:
        _write(to, pem)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}", "Choose another path.") from error
