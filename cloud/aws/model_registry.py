"""SageMaker's Model Registry: groups and packages, without judgement: what goes in is ``cloud.registry.packages``.

The failure this exists for: CreateModelPackageGroup says ValidationException for a group that exists, as for one whose
name is wrong; so the group is looked for before either is believed. Thread-safe, as boto3's clients are.
"""

from collections.abc import Mapping
from typing import Any

from cloud.aws.session import AwsSession, translated
from cloud.errors import ConflictError, InvalidInputError


class ModelRegistry:
    """A :class:`~cloud.registry.packages.PackageStore`."""

    def __init__(self, session: AwsSession) -> None:
        """Nothing is contacted until a method is called."""
        self._client = session.client("sagemaker")

    def ensure_group(self, name: str, description: str) -> None:
        """See the port."""
        try:
            with translated(f"creating model package group {name}"):
                self._client.create_model_package_group(
                    ModelPackageGroupName=name, ModelPackageGroupDescription=description
                )
        except (ConflictError, InvalidInputError):
            # SageMaker says ValidationException for a group that exists; what is really wrong, the next call says.
            with translated(f"looking for model package group {name}"):
                self._client.describe_model_package_group(ModelPackageGroupName=name)

    def packages(self, group: str) -> Mapping[str, str]:
        """See the port."""
        with translated(f"listing the model packages of {group}"):
            pages = self._client.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group)
            return {
                entry.get("ModelPackageDescription", ""): entry["ModelPackageArn"]
                for page in pages
                for entry in page["ModelPackageSummaryList"]
            }

    def create(self, request: Mapping[str, Any]) -> str:
        """See the port."""
        with translated("registering the model package"):
            arn: str = self._client.create_model_package(**request)["ModelPackageArn"]
        return arn
