"""``edgewright publish`` and ``publish-runtime``: a component version of either kind; the doing is ``cloud.publishing``."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from cloud.aws.greengrass import Components
from cloud.aws.model_registry import ModelRegistry
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.cli.arguments import PLATFORM_HELP, PRECISION_HELP, chosen, compile_extra
from cloud.cli.interrupted import interruptible
from cloud.cli.output import OutputFormat, OutputOption, print_fields, progress_console
from cloud.cli.progress import shown_progress
from cloud.compilation.result import AUTO as AUTO_PRECISION, PRECISIONS, Compilation
from cloud.errors import InvalidInputError
from cloud.publishing.errors import SigningKeyError
from cloud.publishing.keys import signer_for
from cloud.publishing.ports import Report
from cloud.publishing.publication import Publication, PublishingPorts, PublishRequest
from cloud.publishing.publish import publish_model
from cloud.publishing.publish_runtime import RuntimeRequest, publish_runtime as publish_the_runtime
from cloud.publishing.source import compilation_folder, fetch_compilation
from cloud.publishing.versions import AUTO, check_version
from cloud.publishing.wheels import PYTHON_VERSIONS, default_cache
from cloud.registry.packages import APPROVALS, register
from cloud.s3_uri import S3Uri
from cloud.settings import Settings
from edge_component.contracts.manifest import PLATFORMS

DAYS_DEFAULT = 365
EXPIRY_SLACK = timedelta(days=2)
"""A publication takes minutes, or a day where it is completed later; a wish for another expiry is of weeks."""

KeyOption = Annotated[
    str, typer.Option("--key", help="kms:<key id, alias/name or ARN>, or a PEM file. Default: EDGEWRIGHT_SIGNING_KEY.")
]
BucketOption = Annotated[str, typer.Option("--bucket", help="S3 bucket. Default: EDGEWRIGHT_BUCKET.")]
VersionOption = Annotated[
    str, typer.Option("--version", "-v", help="Three numbers, or auto: the next minor version.", show_default=True)
]


def publish(
    source: Annotated[str, typer.Argument(help="Compilation folder, or the S3 prefix of one.")] = "",
    onnx: Annotated[Path | None, typer.Option(help="Your own model instead: compiled here, then published.")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="With --onnx: .npz of sample inputs, named as the model's.")
    ] = None,
    name: Annotated[str, typer.Option(help="With --onnx: what clients will ask for.")] = "",
    precision: Annotated[str, typer.Option(help=f"With --onnx: {PRECISION_HELP}")] = AUTO_PRECISION,
    version: VersionOption = AUTO,
    key: KeyOption = "",
    bucket: BucketOption = "",
    valid_days: Annotated[int, typer.Option(min=1, help="How long devices may activate it.")] = DAYS_DEFAULT,
    approval: Annotated[str, typer.Option(help=f"Registry status: {', '.join(APPROVALS)}.")] = APPROVALS[0],
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Sign a compiled model, publish it as a Greengrass component version, and register it.

    Running it again completes a publish that was interrupted. A version that exists with other content is refused.

    For example:

      edgewright publish build/weather --version 1.0.0

      edgewright publish s3://bucket/jobs/compile-7/output --key kms:alias/edgewright -o json

      edgewright publish --onnx silero_vad.onnx --samples speech.npz --name silero-vad

      edgewright publish --onnx pose.onnx --samples frames.npz --name pose --precision fp32
    """
    chosen([precision], PRECISIONS, "--precision")
    own = _own_model(onnx, samples, name, source, precision)
    chosen([approval], APPROVALS, "--approval")
    if version != AUTO:
        check_version(version)  # before a model is compiled for it
    settings, asked_at = Settings.from_environment(), datetime.now(UTC)
    session = AwsSession(settings.region)
    with interruptible("publishing"), shown_progress() as report, _folder(own or source, session, report) as folder:
        request = PublishRequest(folder, version, bucket or settings.bucket, timedelta(days=valid_days))
        publication = publish_model(request, signer_for(key or settings.signing_key, session), _ports(session, report))
        registration = register(publication, Compilation.load(folder).lineage, approval, ModelRegistry(session))
    is_kept = abs(publication.expires_at - asked_at - request.validity) > EXPIRY_SLACK
    if is_kept and valid_days != DAYS_DEFAULT:
        progress_console.print(
            f"[yellow]{publication.version} was published before: it keeps its expiry.[/] A new version takes --valid-days.",
            highlight=False,
        )
    if not registration.is_new and approval != APPROVALS[0]:
        progress_console.print(
            f"[yellow]{publication.version} was registered before: --approval changes nothing.[/] aws sagemaker "
            f"update-model-package --model-package-arn {registration.package_arn} --model-approval-status {approval} does.",
            highlight=False,
            soft_wrap=True,
        )
    _print_publication(publication, registration.package_arn, output)


def publish_runtime(
    version: VersionOption = AUTO,
    platform: Annotated[list[str] | None, typer.Option(help=f"{PLATFORM_HELP} Default: both.")] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(help=f"Devices' Python: {', '.join(PYTHON_VERSIONS)}; repeat for several. Default: all."),
    ] = None,
    trust: Annotated[
        list[Path] | None, typer.Option(help="Public key (PEM) to trust. Default: the signing key's.")
    ] = None,
    key: KeyOption = "",
    bucket: BucketOption = "",
    wheel_cache: Annotated[Path | None, typer.Option(help="Where wheels are kept between runs.")] = None,
    with_grpc: Annotated[
        bool, typer.Option(help="Bring protobuf and hpack (0.4 MB), for devices whose gRPC doors are opened.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Publish the runtime component, with every wheel that a device needs to install it without network.

    The first run fetches wheels from the package index and keeps them; some 130 MB for a platform's three Pythons.

    For example:

      edgewright publish-runtime --version 1.0.0

      edgewright publish-runtime --platform linux/aarch64 --python 3.11 --trust build.pub --trust release.pub
    """
    settings = Settings.from_environment()
    session = AwsSession(settings.region)
    public_keys = _read(trust) if trust else (signer_for(key or settings.signing_key, session).public_key_pem(),)
    with interruptible("publishing"), shown_progress() as report:
        request = RuntimeRequest(
            version=version,
            bucket=bucket or settings.bucket,
            platforms=chosen(platform, PLATFORMS, "--platform"),
            python_versions=chosen(python, PYTHON_VERSIONS, "--python"),
            public_keys=public_keys,
            ingest_rule=settings.ingest_rule,
            wheel_cache=wheel_cache or default_cache(),
            with_grpc=with_grpc,
        )
        publication = publish_the_runtime(request, _ports(session, report))
    print_fields(publication.to_document(), output)


@dataclass(frozen=True, slots=True)
class _Own:
    """An ONNX file of the user's own, with its samples and name."""

    onnx: Path
    samples: Path
    name: str
    precision: str


def _own_model(onnx: Path | None, samples: Path | None, name: str, source: str, precision: str) -> _Own | None:
    if onnx is not None and samples is not None and name and not source:
        return _Own(onnx, samples, name, precision)
    if source and precision != AUTO_PRECISION:
        raise InvalidInputError(
            "--precision is chosen when a model is compiled, and this one is",
            "Compile it with --precision, then publish it.",
        )
    if onnx is None and samples is None and not name and source:
        return None
    raise InvalidInputError(
        "either a compilation is published, or an ONNX file of your own",
        "Give a folder or S3 prefix, or --onnx FILE with --samples FILE and --name NAME.",
    )


@contextmanager
def _folder(source: _Own | str, session: AwsSession, report: Report) -> Iterator[Path]:
    """The compilation to publish, for as long as the block lasts."""
    if isinstance(source, str) and "://" not in source:
        yield compilation_folder(Path(source))
        return
    with tempfile.TemporaryDirectory(prefix="edgewright-compilation-") as scratch:
        if isinstance(source, str):
            yield fetch_compilation(S3Uri.parse(source), ObjectStore(session), Path(scratch))
        else:
            report(f"compiling {source.onnx.name}", 0, 1)
            yield _compiled(source, Path(scratch))


def _compiled(own: _Own, folder: Path) -> Path:
    with compile_extra():
        from cloud.compilation.own_model import OwnModel, compile_own_model  # noqa: PLC0415 - see compile.py
    report = compile_own_model(OwnModel(own.onnx, own.samples, own.name), folder, precision=own.precision)
    for line in report.lines():
        progress_console.print(line, markup=False, highlight=False, soft_wrap=True)
    return folder


def _ports(session: AwsSession, report: Report) -> PublishingPorts:
    return PublishingPorts(ObjectStore(session), Components(session), report=report)


def _read(paths: list[Path]) -> tuple[bytes, ...]:
    try:
        return tuple(path.read_bytes() for path in paths)
    except OSError as error:
        raise SigningKeyError(
            f"--trust {error.filename}: {error.strerror}", "Export the public key with `edgewright keys export`."
        ) from error


def _print_publication(publication: Publication, package_arn: str, output: OutputFormat) -> None:
    document = {**publication.to_document(), "model_package_arn": package_arn}
    if output is OutputFormat.TABLE:
        document["bundles"] = [
            f"{bundle.platform} {bundle.precision} {bundle.digest[:12]}" for bundle in publication.bundles
        ]
    print_fields(document, output)
