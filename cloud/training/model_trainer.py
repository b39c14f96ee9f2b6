"""The same specification as a SageMaker SDK V3 ``ModelTrainer``, for those who live in Studio notebooks.

The failure this exists for: a notebook that trains something else than ``edgewright train``. Both are rendered from
``model.toml``; the SDK's own drivers start the very same script.

The SDK (extra ``[sagemaker]``: a good 700 MB, seconds to import) is imported here and only when asked for::

    trainer = model_trainer(Specification.load(Path("models/weather")), order)
    trainer.train(wait=True)

Its constructor asks ``iam:SimulatePrincipalPolicy``; where the role may not (and on the local cloud, which does not
answer that), set ``SAGEMAKER_VALIDATE_ROLE=false``.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from cloud.errors import EdgewrightError
from cloud.training.specification import Specification


class SdkMissingError(EdgewrightError):
    """The SageMaker SDK is not installed."""

    code: ClassVar[str] = "sdk-missing"
    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class TrainerOrder:
    """What ``model.toml`` does not say.

    Attributes:
        role_arn: role that the job assumes.
        image: container image with the script's packages, bash and Python.
        bucket: where the SDK copies the sources; it would otherwise make one of its own.
        data_uri: S3 prefix with the training data.
        output_uri: S3 prefix for the artifact.
        incumbent_uri: S3 prefix with the ``model.onnx`` in service, or empty.
    """

    role_arn: str
    image: str
    bucket: str
    data_uri: str
    output_uri: str
    incumbent_uri: str = ""


def model_trainer(specification: Specification, order: TrainerOrder) -> Any:  # noqa: ANN401 - the SDK's class, imported late
    """A ``ModelTrainer`` that is ready to ``train()``.

    Raises:
        SdkMissingError: install the extra ``[sagemaker]``.
    """
    train, configs = _sdk("sagemaker.train"), _sdk("sagemaker.train.configs")
    session = _sdk("sagemaker.core.helper.session_helper").Session(default_bucket=order.bucket)
    machine = specification.training
    channels = {"training": order.data_uri}
    if order.incumbent_uri:
        channels["incumbent"] = order.incumbent_uri
    trainer = train.ModelTrainer(
        sagemaker_session=session,
        role=order.role_arn,
        base_job_name=specification.model_name,
        training_image=order.image,
        source_code=configs.SourceCode(
            source_dir=str(specification.folder), command=f"python3 {specification.entry_point}"
        ),
        compute=configs.Compute(
            instance_type=machine.instance_type,
            instance_count=machine.instance_count,
            volume_size_in_gb=machine.volume_gb,
        ),
        stopping_condition=configs.StoppingCondition(max_runtime_in_seconds=machine.max_runtime_s),
        output_data_config=configs.OutputDataConfig(s3_output_path=order.output_uri),
        input_data_config=[configs.InputData(channel_name=name, data_source=uri) for name, uri in channels.items()],
        hyperparameters=dict(specification.hyperparameters),
    )
    return trainer.with_metric_definitions(
        [configs.MetricDefinition(name=name, regex=regex) for name, regex in specification.metrics.items()]
    )


def _sdk(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SdkMissingError(
            f"the SageMaker Python SDK V3 cannot be imported ({error})",
            "Install it: pip install 'edgewright[sagemaker]'.",
        ) from error
