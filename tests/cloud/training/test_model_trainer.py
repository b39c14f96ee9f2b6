"""Without the SDK: one clear line. With it: see tests/sagemaker_sdk/."""

import sys
from pathlib import Path

import pytest

from cloud.training.model_trainer import SdkMissingError, TrainerOrder, model_trainer
from cloud.training.specification import Specification

MODEL_FOLDER = Path(__file__).resolve().parents[3] / "models" / "weather"


def test_without_the_sdk_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sagemaker", None)
    order = TrainerOrder("arn:aws:iam::123456789012:role/r", "image", "bucket", "s3://bucket/data/", "s3://bucket/out")
    with pytest.raises(SdkMissingError) as caught:
        model_trainer(Specification.load(MODEL_FOLDER), order)
    assert "pip install 'edgewright[sagemaker]'" in caught.value.remedy
