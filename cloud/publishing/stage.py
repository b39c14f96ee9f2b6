"""Publish what a job compiled: ``python3 -m cloud.publishing.stage``, the last station of the retraining loop.

Runs as a SageMaker Processing job (so without a person to read its output): it signs, publishes and registers, and
leaves ``publication.json`` in its output folder, or, if it refused, ``failure.json`` with the error's code, sentence and
remedy, beside a non-zero exit code. Running it again completes an interrupted run under the same version.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cloud.aws.greengrass import Components
from cloud.aws.model_registry import ModelRegistry
from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.compilation.result import Compilation
from cloud.errors import EdgewrightError
from cloud.publishing.keys import signer_for
from cloud.publishing.publication import PublishingPorts, PublishRequest
from cloud.publishing.publish import publish_model
from cloud.publishing.source import compilation_folder
from cloud.publishing.versions import AUTO
from cloud.registry.packages import APPROVALS, register
from cloud.settings import Settings
from edge_component.contracts.codec import Document, to_bytes

RESULT_FILE = "publication.json"
FAILURE_FILE = "failure.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage; returns the exit code."""
    options = _parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        document = run_stage(options, Settings.from_environment())
    except EdgewrightError as error:
        failure = {"code": error.code, "message": str(error), "remedy": error.remedy}
        (options.output / FAILURE_FILE).write_bytes(to_bytes(failure))
        sys.stderr.write(f"{error}\n{error.remedy}\n")
        return error.exit_code
    (options.output / RESULT_FILE).write_bytes(to_bytes(document))
    sys.stdout.write(f"published {document['component_name']} {document['version']}\n")
    return 0


def run_stage(options: argparse.Namespace, settings: Settings) -> Document:
    """Publish and register; the publication with the package's ARN.

    Raises:
        EdgewrightError: as :func:`publish_model`.
    """
    session = AwsSession(settings.region)
    folder = compilation_folder(options.compilation)
    request = PublishRequest(folder, options.version, options.bucket or settings.bucket)
    signer = signer_for(options.key or settings.signing_key, session)
    ports = PublishingPorts(ObjectStore(session), Components(session), report=_print_progress)
    publication = publish_model(request, signer, ports)
    lineage = Compilation.load(folder).lineage
    registration = register(publication, lineage, options.approval, ModelRegistry(session))
    return {**publication.to_document(), "model_package_arn": registration.package_arn}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m cloud.publishing.stage", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--compilation", type=Path, required=True, help="folder that the compile stage wrote")
    parser.add_argument("--output", type=Path, default=Path("/opt/ml/processing/output"), help="where the result goes")
    parser.add_argument("--version", default=AUTO, help="three numbers, or auto for the next minor version")
    parser.add_argument("--bucket", default="", help="default: EDGEWRIGHT_BUCKET")
    parser.add_argument(
        "--key", default="", help="kms:<id, alias/name or ARN> or a PEM file; default: EDGEWRIGHT_SIGNING_KEY"
    )
    parser.add_argument("--approval", choices=APPROVALS, default=APPROVALS[0], help="status in the model registry")
    return parser


def _print_progress(what: str, done_count: int, step_count: int) -> None:
    sys.stdout.write(f"[{done_count}/{step_count}] {what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
