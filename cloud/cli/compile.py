"""``edgewright compile``: as a SageMaker job, on this machine, or for an .onnx file of one's own; see ``cloud.compilation``.

What only compiling here needs is imported when it is asked for: a laptop that submits jobs has no ONNX Runtime.
"""

import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cloud.aws.s3 import ObjectStore
from cloud.aws.sagemaker import SageMakerJobs
from cloud.aws.session import AwsSession
from cloud.cli.arguments import PLATFORM_HELP, PRECISION_HELP, chosen, compile_extra
from cloud.cli.job_progress import print_followed, print_submitted, shown_job, submitting
from cloud.cli.output import OutputFormat, OutputOption, print_fields, progress_console
from cloud.compilation.job import await_result, submit
from cloud.compilation.report import Report
from cloud.compilation.request import CompilationRun
from cloud.compilation.result import AUTO, PRECISIONS
from cloud.errors import InvalidInputError, NotFoundError
from cloud.jobs.follow import first_look
from cloud.jobs.job import NAME_PATTERN, JobKind, Jobs, job_name
from cloud.jobs.processing import SMALL_MACHINE
from cloud.publishing.source import fetch_compilation
from cloud.s3_uri import S3Uri
from cloud.settings import Settings
from cloud.training.specification import SPECIFICATION_FILE, Specification
from edge_component.contracts.manifest import PLATFORMS

LEFT_A_MODEL = ("Completed", "Stopped")
"""Statuses of a training job whose artifact may be whole: SageMaker saves what a stopped script has written."""

OutputFolder = Annotated[Path | None, typer.Option("--to", help="Folder for the compilation.")]


def compile_model(
    source: Annotated[
        str, typer.Argument(help="Training job's name, S3 URI of model.tar.gz, local artifact, or .onnx file.")
    ],
    local: Annotated[bool, typer.Option("--local", help="Compile on this machine, without SageMaker.")] = False,
    samples: Annotated[Path | None, typer.Option(help="For an .onnx file: .npz of sample requests.")] = None,
    model_name: Annotated[str, typer.Option(help="For an .onnx file: what clients will ask for.")] = "",
    platform: Annotated[
        list[str] | None, typer.Option(help=f"{PLATFORM_HELP} Default: model.toml's, else all.")
    ] = None,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = AUTO,
    to: OutputFolder = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder with model.toml: machine and platforms. Default: the training job's own."),
    ] = None,
    name: Annotated[str, typer.Option(help="Job name; an existing job is followed. Default: a new one.")] = "",
    bucket: Annotated[str, typer.Option(help="S3 bucket. Default: EDGEWRIGHT_BUCKET.")] = "",
    wait: Annotated[bool, typer.Option(help="Follow the job to its end.")] = True,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Compile a trained model for each platform, and put it before the gates.

    int8 is chosen where it passes every gate, else fp32; the report says why. Exit code 3: the model is refused.

    A job runs on the machine that model.toml asks for under compilation: the file that the training job was submitted
    with, or that of --model.

    For example:

      edgewright compile weather-20261121-231500-a1b2c3

      edgewright compile s3://bucket/training/job/output/model.tar.gz --model models/weather --to build/weather

      edgewright compile build/model --local --to build/weather

      edgewright compile vad.onnx --samples requests.npz --model-name silero-vad --to build/vad

      edgewright compile weather-20261121-231500-a1b2c3 --precision fp32
    """
    chosen([precision], PRECISIONS, "--precision")
    platforms = chosen(platform, PLATFORMS, "--platform")
    if model and (local or source.endswith(".onnx")):
        raise InvalidInputError("--model sizes a job, and none is started", "Leave it out, or choose with --platform.")
    if source.endswith(".onnx") and "://" not in source:
        own = _Own(Path(source), samples, model_name)
        _print_report(_compile_own(own, platforms, precision, _required(to)), _required(to), output)
        return
    if local:
        _print_report(_compile_here(Path(source), platforms, precision, _required(to)), _required(to), output)
        return
    settings = Settings.from_environment()
    asked = _Asked(source, name, bucket or settings.bucket, platforms if platform else None, precision, model)
    _compile_by_job(asked, settings, to, output, wait=wait)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a job is asked for; ``platforms`` is ``None`` where the command line chose none."""

    source: str
    name: str
    bucket: str
    platforms: tuple[str, ...] | None
    precision: str
    model: Path | None


@dataclass(frozen=True, slots=True)
class _Own:
    """An ONNX file of the user's own, with what the command line says of it."""

    onnx: Path
    samples: Path | None
    model_name: str


def _compile_by_job(asked: _Asked, settings: Settings, to: Path | None, output: OutputFormat, *, wait: bool) -> None:
    _require_remote(asked.source)
    session = AwsSession(settings.region)
    jobs = SageMakerJobs(session)
    run = _run(asked, settings, jobs, ObjectStore(session))
    with submitting(run.job_name):
        is_new = submit(run, jobs)
    if not is_new:
        print_followed(run.job_name)
    if not wait:
        print_submitted(first_look(jobs, JobKind.PROCESSING, run.job_name), output)
        return
    with shown_job("compiling", JobKind.PROCESSING, run.job_name) as on_change:
        result = await_result(jobs, run.job_name, on_change)
    folder = fetch_compilation(S3Uri.parse(result.output_uri), ObjectStore(session), to) if to else None
    print_fields({**asdict(result), "folder": folder}, output)


def _require_remote(source: str) -> None:
    if Path(source).exists():
        raise InvalidInputError(f"{source} is on this machine", "Add --local, or give its S3 URI.")
    if "://" not in source and not NAME_PATTERN.fullmatch(source):
        raise InvalidInputError(
            f"{source!r} is neither a training job's name nor an S3 URI, and no such file is here",
            "Give the name that `edgewright train` printed, s3://…/model.tar.gz, or a path with --local.",
        )


def _run(asked: _Asked, settings: Settings, jobs: Jobs, store: ObjectStore) -> CompilationRun:
    lineage: dict[str, str] = {}
    artifact_uri, code_uri = asked.source, ""
    if "://" not in asked.source:
        trained = jobs.state(JobKind.TRAINING, asked.source)
        if trained.status not in LEFT_A_MODEL or not trained.output_uri:  # others may name where it would have been
            remedy = (
                "Train again." if trained.has_ended else f"Wait for its end: edgewright train … --name {trained.name}."
            )
            raise InvalidInputError(f"training job {asked.source} has left no artifact ({trained.status})", remedy)
        artifact_uri, code_uri, lineage = trained.output_uri, trained.code_uri, {"training_job_arn": trained.arn}
    run_name = asked.name or job_name("compile", datetime.now(UTC), secrets.token_hex(3))
    specification = Specification.load(asked.model) if asked.model else _trained_with(code_uri, store)
    if specification is None:
        progress_console.print(
            f"[dim]No model.toml is known for it: compiling on {SMALL_MACHINE.instance_type}; --model names one.[/]",
            highlight=False,
        )
    return CompilationRun(
        job_name=run_name,
        role_arn=settings.role_arn,
        image=settings.job_image,
        artifact_uri=str(S3Uri.parse(artifact_uri)),
        output_uri=f"s3://{asked.bucket}/compilations/{run_name}",
        platforms=asked.platforms or (specification.platforms if specification else PLATFORMS),
        lineage={**lineage, "artifact_uri": artifact_uri},
        machine=specification.compilation if specification else SMALL_MACHINE,
        precision=asked.precision,
    )


def _trained_with(code_uri: str, store: ObjectStore) -> Specification | None:
    """The specification that a training job was submitted with; jobs of other makers, and older ones, left none."""
    if not code_uri:
        return None
    uri = S3Uri.parse(code_uri) / SPECIFICATION_FILE
    try:
        return Specification.from_bytes(store.get_bytes(uri), uri)
    except NotFoundError:
        return None


def _compile_here(source: Path, platforms: tuple[str, ...], precision: str, to: Path) -> Report:
    with compile_extra():
        from cloud.compilation.stage import Order, compile_model as compile_here  # noqa: PLC0415 - see above
    if not source.exists():
        raise InvalidInputError(f"{source} does not exist", "Give the folder with model.onnx, or a model.tar.gz.")
    report = compile_here(Order(source, to, platforms, precision=precision))
    report.require_compiled()
    return report


def _compile_own(own: _Own, platforms: tuple[str, ...], precision: str, to: Path) -> Report:
    with compile_extra():
        from cloud.compilation.own_model import OwnModel, compile_own_model  # noqa: PLC0415 - see above
    if own.samples is None or not own.model_name:
        raise InvalidInputError(
            "an .onnx file needs --samples and --model-name", "Give an .npz of sample requests, and a name."
        )
    return compile_own_model(OwnModel(own.onnx, own.samples, own.model_name), to, platforms, precision)


def _print_report(report: Report, to: Path, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_fields({**report.to_document(), "folder": to}, output)
        return
    typer.echo(f"{report.to_text()}compilation: {to}")


def _required(to: Path | None) -> Path:
    if to is None:
        raise InvalidInputError("compiling on this machine needs --to", "Say where the compilation folder goes.")
    return to
