"""``edgewright setup``: what has to stand before anything flows; what it makes is ``cloud.infrastructure.setup``."""

from pathlib import Path
from typing import Annotated

import typer

from cloud.aws.session import AwsSession
from cloud.cli.arguments import name_value_pairs
from cloud.cli.interrupted import interruptible
from cloud.cli.output import OutputFormat, OutputOption, print_fields, progress_console
from cloud.errors import InvalidInputError
from cloud.infrastructure.setup import ModelWish, Setup
from cloud.settings import Settings
from cloud.training.specification import Specification


def setup(
    model: Annotated[
        list[Path] | None, typer.Option(help="Folder with model.toml: retrain it when it drifts. May be repeated.")
    ] = None,
    data: Annotated[str, typer.Option(help="S3 prefix of that model's training data.")] = "",
    hyperparameter: Annotated[
        list[str] | None, typer.Option(help="name=value, for retraining; may be repeated.")
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make bucket, role, signing key, queues and rules; and for each model its retraining state machine.

    Running it again changes nothing that is as it should be. EDGEWRIGHT_* variables choose the names.

    For example:

      edgewright setup

      edgewright setup --model models/weather --data s3://edgewright/data/weather/
    """
    folders = model or []
    if (data or hyperparameter) and len(folders) != 1:
        raise InvalidInputError(
            "--data and --hyperparameter belong to one --model", "Run edgewright setup once for each model."
        )
    pairs = name_value_pairs(hyperparameter, "--hyperparameter")
    settings = Settings.from_environment()
    wishes = [ModelWish(Specification.load(folder), data, pairs) for folder in folders]
    for wish in wishes:
        wish.check()
    installation = Setup(
        settings, AwsSession(settings.region), lambda step: progress_console.print(f"[dim]{step}[/]", highlight=False)
    )
    with interruptible("setting up"):
        made: dict[str, object] = dict(installation.run())
        if wishes:
            made["models"] = [installation.run_model(wish) for wish in wishes]
    print_fields(made, output)
