"""``edgewright compile``: as a SageMaker job, on this machine, or for an .onnx file of one's own; see ``cloud.compilation``.

What only compiling here needs is imported when it is asked for: a laptop that submits jobs has no ONNX Runtime.
"""

import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cloud.aws.s3 import ObjectStore
from cloud.aws.sagemaker import SageMakerJobs
from cloud.aws.session import AwsSession
from cloud.cli.arguments import chosen, compile_extra
from cloud.cli.job_progress import print_submitted, shown_job
from cloud.cli.output import OutputFormat, OutputOption, print_fields
from cloud.compilation.job import await_result, submit
from cloud.compilation.report import Report
from cloud.compilation.request import CompilationRun
from cloud.errors import InvalidInputError
from cloud.jobs.job import NAME_PATTERN, JobKind, Jobs, job_name
from cloud.publishing.source import fetch_compilation
from cloud.s3_uri import S3Uri
from cloud.settings import Settings
from edge_component.contracts.manifest import PLATFORMS

OutputFolder = Annotated[Path | None, typer.Option("--to", help="Folder for the compilation.")]


def compile_model(
    source: Annotated[
        str, typer.Argument(help="Training job's name, S3 URI of model.tar.gz, local artifact, or .onnx file.")
    ],
    local: Annotated[bool, typer.Option("--local", help="Compile on this machine, without SageMaker.")] = False,
    samples: Annotated[Path | None, typer.Option(help="For an .onnx file: .npz of sample requests.")] = None,
    model_name: Annotated[str, typer.Option(help="For an .onnx file: what clients will ask for.")] = "",
    platform: Annotated[list[str] | None, typer.Option(help="Repeat for several. Default: all.")] = None,
    to: OutputFolder = None,
    name: Annotated[str, typer.Option(help="Job name; an existing job is followed. Default: a new one.")] = "",
    bucket: Annotated[str, typer.Option(help="S3 bucket. Default: EDGEWRIGHT_BUCKET.")] = "",
    wait: Annotated[bool, typer.Option(help="Follow the job to its end.")] = True,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Compile a trained model for each platform, and put it before the gates.

    int8 is chosen where it passes every gate, else fp32; the report says why. Exit code 3: the model is refused.

    For example:

      edgewright compile weather-20261121-231500-a1b2c3

      edgewright compile s3://bucket/training/job/output/model.tar.gz --to build/weather

      edgewright compile build/model --local --to build/weather

      edgewright compile vad.onnx --samples requests.npz --model-name silero-vad --to build/vad
    """
    platforms = chosen(platform, PLATFORMS, "--platform")
    if source.endswith(".onnx") and "://" not in source:
        _print_report(_compile_own(Path(source), samples, model_name, platforms, _required(to)), _required(to), output)
        return
    if local:
        _print_report(_compile_here(Path(source), platforms, _required(to)), _required(to), output)
        return
    _compile_by_job(source, name, bucket, platforms, to, output, wait=wait)


def _compile_by_job(
    source: str,
    name: str,
    bucket: str,
    platforms: tuple[str, ...],
    to: Path | None,
    output: OutputFormat,
    *,
    wait: bool,
) -> None:
    _require_remote(source)
    settings = Settings.from_environment()
    session = AwsSession(settings.region)
    jobs = SageMakerJobs(session)
    run = _run(source, name, bucket or settings.bucket, settings, platforms, jobs)
    submit(run, jobs)
    if not wait:
        print_submitted(jobs.state(JobKind.PROCESSING, run.job_name), output)
        return
    with shown_job("compiling") as on_change:
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


def _run(
    source: str, name: str, bucket: str, settings: Settings, platforms: tuple[str, ...], jobs: Jobs
) -> CompilationRun:
    lineage: dict[str, str] = {}
    artifact_uri = source
    if "://" not in source:
        trained = jobs.state(JobKind.TRAINING, source)
        if not trained.output_uri:
            raise InvalidInputError(
                f"training job {source} has left no artifact ({trained.status})", "Wait for its end."
            )
        artifact_uri, lineage = trained.output_uri, {"training_job_arn": trained.arn}
    run_name = name or job_name("compile", datetime.now(UTC), secrets.token_hex(3))
    return CompilationRun(
        job_name=run_name,
        role_arn=settings.role_arn,
        image=settings.job_image,
        artifact_uri=str(S3Uri.parse(artifact_uri)),
        output_uri=f"s3://{bucket}/compilations/{run_name}",
        platforms=platforms,
        lineage={**lineage, "artifact_uri": artifact_uri},
    )


def _compile_here(source: Path, platforms: tuple[str, ...], to: Path) -> Report:
    with compile_extra():
        from cloud.compilation.stage import Order, compile_model as compile_here  # noqa: PLC0415 - see above
    if not source.exists():
        raise InvalidInputError(f"{source} does not exist", "Give the folder with model.onnx, or a model.tar.gz.")
    report = compile_here(Order(source, to, platforms))
    report.require_compiled()
    return report


def _compile_own(source: Path, samples: Path | None, model_name: str, platforms: tuple[str, ...], to: Path) -> Report:
    with compile_extra():
        from cloud.compilation.own_model import OwnModel, compile_own_model  # noqa: PLC0415 - see above
    if samples is None or not model_name:
        raise InvalidInputError(
            "an .onnx file needs --samples and --model-name", "Give an .npz of sample requests, and a name."
        )
    return compile_own_model(OwnModel(source, samples, model_name), to, platforms)


def _print_report(report: Report, to: Path, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_fields({**report.to_document(), "folder": to}, output)
        return
    typer.echo(f"{report.to_text()}compilation: {to}")


def _required(to: Path | None) -> Path:
    if to is None:
        raise InvalidInputError("compiling on this machine needs --to", "Say where the compilation folder goes.")
    return to
