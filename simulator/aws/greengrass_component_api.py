"""The component operations of Greengrass V2, over :class:`ComponentCatalog`."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from simulator.aws.cloud import Cloud
from simulator.aws.errors import AwsError, NotRealError
from simulator.aws.greengrass_components import (
    Candidate,
    ComponentCatalog,
    ComponentVersion,
    not_found,
    platforms_of,
    recipe_json,
)
from simulator.aws.operations import Call
from simulator.aws.paging import page

PRESIGNED_S = 3600
DEPLOYABLE = {"componentState": "DEPLOYABLE", "message": "NONE", "errors": {}}
REQUESTED = {"componentState": "REQUESTED", "message": "NONE", "errors": {}}


class ComponentApi:
    """The handlers; stateless beside the catalog."""

    def __init__(self, cloud: Cloud, catalog: ComponentCatalog, clients: Callable[[str], Any]) -> None:
        """Registers every operation."""
        self._cloud, self._catalog, self._clients = cloud, catalog, clients
        cloud.operations.serve(
            "greengrassv2",
            {
                "CreateComponentVersion": self.create_component_version,
                "DescribeComponent": self.describe_component,
                "GetComponent": self.get_component,
                "GetComponentVersionArtifact": self.get_component_version_artifact,
                "ListComponents": self.list_components,
                "ListComponentVersions": self.list_component_versions,
                "DeleteComponent": self.delete_component,
                "ResolveComponentCandidates": self.resolve_component_candidates,
            },
        )

    def create_component_version(self, call: Call) -> Mapping[str, Any]:
        """CreateComponentVersion from an inline recipe. It is deployable at once; the answer says REQUESTED, as AWS's."""
        given = call.parameters
        if given.get("lambdaFunction"):
            raise NotRealError("greengrassv2:CreateComponentVersion from a Lambda function")
        if not given.get("inlineRecipe"):
            raise AwsError("ValidationException", "inlineRecipe or lambdaFunction is required")
        content = given["inlineRecipe"]
        made = self._catalog.create(content, given.get("tags", {}), given.get("clientToken"), self._cloud.clock())
        return {**_identity(made), "creationTimestamp": made.created_at, "status": REQUESTED}

    def describe_component(self, call: Call) -> Mapping[str, Any]:
        """DescribeComponent."""
        found = self._catalog.by_arn(call.parameters["arn"])
        return {
            **_identity(found),
            **_about(found),
            "creationTimestamp": found.created_at,
            "status": DEPLOYABLE,
            "platforms": platforms_of(found),
            "tags": found.tags,
        }

    def get_component(self, call: Call) -> Mapping[str, Any]:
        """GetComponent, as JSON or YAML."""
        found = self._catalog.by_arn(call.parameters["arn"])
        kind = call.parameters.get("recipeOutputFormat") or "JSON"
        recipe = recipe_json(found)
        if kind == "YAML":
            recipe = yaml.safe_dump(json.loads(recipe), sort_keys=False).encode()
        return {"recipeOutputFormat": kind, "recipe": recipe, "tags": found.tags}

    def get_component_version_artifact(self, call: Call) -> Mapping[str, Any]:
        """GetComponentVersionArtifact: a presigned S3 URL."""
        return {"preSignedUrl": self.artifact_url(call.parameters["arn"], call.parameters["artifactName"])}

    def artifact_url(self, arn: str, artifact_name: str) -> str:
        """Where an artifact of a component version can be fetched for an hour.

        Raises:
            AwsError: ``ResourceNotFoundException``: no such version, or it has no artifact of that name.
        """
        found = self._catalog.by_arn(arn)
        for uri in found.recipe.artifact_uris:
            if uri.endswith(f"/{artifact_name}"):
                bucket, _, key = uri.removeprefix("s3://").partition("/")
                url: str = self._clients("s3").generate_presigned_url(
                    "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=PRESIGNED_S
                )
                return url
        raise not_found("ARTIFACT", f"{artifact_name} of {arn}")

    def list_components(self, call: Call) -> Mapping[str, Any]:
        """ListComponents: private ones; AWS's public ones are not here."""
        names = () if call.parameters.get("scope") == "PUBLIC" else self._catalog.names()
        entries = [
            {"arn": self._catalog.component_arn(name), "componentName": name, "latestVersion": _latest(versions[0])}
            for name in names
            if (versions := self._catalog.versions(name))
        ]
        return page("components", entries, call.parameters, "ValidationException")

    def list_component_versions(self, call: Call) -> Mapping[str, Any]:
        """ListComponentVersions, highest first."""
        arn = call.parameters["arn"]
        versions = self._catalog.versions(arn.partition(":components:")[2])
        if not versions:
            raise not_found("COMPONENT", arn)
        entries = [_identity(each) for each in versions]
        return page("componentVersions", entries, call.parameters, "ValidationException")

    def delete_component(self, call: Call) -> None:
        """DeleteComponent: one version; devices that have it keep it."""
        self._catalog.delete(call.parameters["arn"])

    def resolve_component_candidates(self, call: Call) -> Mapping[str, Any]:
        """ResolveComponentCandidates, asked with credentials; devices ask without (:mod:`simulator.aws.greengrass_data`)."""
        return self.resolve_answer(call.parameters)

    def resolve_answer(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """The version of each candidate, with its recipe.

        Raises:
            AwsError: ``ResourceNotFoundException``, ``ValidationException``.
        """
        attributes = parameters.get("platform", {}).get("attributes", {})
        candidates = [
            Candidate(each["componentName"], each.get("versionRequirements", {}), each.get("componentVersion"))
            for each in parameters.get("componentCandidates", ())
            if "componentName" in each
        ]
        found = [self._catalog.resolve(candidate, attributes) for candidate in candidates]
        return {
            "resolvedComponentVersions": [
                {**_identity(each), "recipe": recipe_json(each), "vendorGuidance": "ACTIVE"} for each in found
            ]
        }


def _identity(version: ComponentVersion) -> dict[str, Any]:
    recipe = version.recipe
    return {"arn": version.arn, "componentName": recipe.name, "componentVersion": recipe.version}


def _about(version: ComponentVersion) -> dict[str, Any]:
    names = {"publisher": "ComponentPublisher", "description": "ComponentDescription"}
    document = version.recipe.document
    return {name: document[key] for name, key in names.items() if document.get(key)}


def _latest(version: ComponentVersion) -> dict[str, Any]:
    return {
        **_about(version),
        "arn": version.arn,
        "componentVersion": version.recipe.version,
        "creationTimestamp": version.created_at,
        "platforms": platforms_of(version),
    }
