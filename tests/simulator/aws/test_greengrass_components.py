"""Component versions through boto3: what is refused, what is immutable, what a device is given."""

import base64
import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from hypothesis import given, strategies as st

from simulator.aws.cloud import utc_now
from simulator.aws.errors import AwsError
from simulator.aws.greengrass_components import Candidate, ComponentCatalog
from simulator.aws.greengrass_recipe import runs_on
from simulator.aws.server import LocalCloud

Client = Callable[[str], Any]
ARTIFACT = b"model bytes"
LINUX = {"os": "linux", "architecture": "x86_64", "runtime": "aws_nucleus_lite"}


@pytest.fixture(scope="module")
def artifact(client: Client) -> str:
    client("s3").create_bucket(Bucket="artifacts")
    client("s3").put_object(Bucket="artifacts", Key="digest/model.zip", Body=ARTIFACT)
    return "s3://artifacts/digest/model.zip"


@pytest.fixture
def name() -> str:
    return f"com.example.{uuid.uuid4().hex[:8]}"


def recipe(name: str, version: str = "1.0.0", artifact: str = "", **more: Any) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        "Platform": {"os": "linux", "runtime": "*"},
        "Lifecycle": {"startup": {"Script": "exit 0", "Timeout": 60}},
    }
    if artifact:
        manifest["Artifacts"] = [{"Uri": artifact}]
    return {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": version,
        "ComponentPublisher": "Example",
        "Manifests": [manifest],
        **more,
    }


def publish(client: Client, document: Any, **more: Any) -> dict[str, Any]:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer: dict[str, Any] = client("greengrassv2").create_component_version(inlineRecipe=content, **more)
    return answer


def error_of(action: Callable[[], object]) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        action()
    return {**caught.value.response["Error"], "status": caught.value.response["ResponseMetadata"]["HTTPStatusCode"]}


def test_a_version_carries_the_digest_of_its_artifact(client: Client, name: str, artifact: str) -> None:
    answer = publish(client, recipe(name, artifact=artifact), tags={"team": "edge"})
    assert answer["arn"] == f"arn:aws:greengrass:us-east-1:123456789012:components:{name}:versions:1.0.0"
    assert answer["status"]["componentState"] == "REQUESTED"
    described = client("greengrassv2").describe_component(arn=answer["arn"])
    assert described["status"]["componentState"] == "DEPLOYABLE"
    assert (described["tags"], described["publisher"]) == ({"team": "edge"}, "Example")
    got = json.loads(client("greengrassv2").get_component(arn=answer["arn"])["recipe"])
    [delivered] = got["Manifests"][0]["Artifacts"]
    assert delivered == {
        "Uri": artifact,
        "Unarchive": "NONE",
        "Permission": {"Read": "OWNER", "Execute": "NONE"},
        "Digest": base64.b64encode(hashlib.sha256(ARTIFACT).digest()).decode(),
        "Algorithm": "SHA-256",
    }
    as_yaml = client("greengrassv2").get_component(arn=answer["arn"], recipeOutputFormat="YAML")["recipe"]
    assert yaml.safe_load(as_yaml) == got


def test_a_recipe_may_be_yaml_with_keys_in_any_case_and_comes_back_in_awss(client: Client, name: str) -> None:
    text = (
        f"recipeformatversion: '2020-01-25'\ncomponentname: {name}\ncomponentversion: 1.2.3\n"
        "manifests:\n- platform: {os: linux}\n  lifecycle: {Install: echo}\n"
    )
    arn = publish(client, text.encode())["arn"]
    got = json.loads(client("greengrassv2").get_component(arn=arn)["recipe"])
    assert got["ComponentVersion"] == "1.2.3"
    assert got["Manifests"][0]["Lifecycle"] == {"install": "echo"}


def test_the_same_version_again_is_a_conflict_whatever_its_bytes(client: Client, name: str) -> None:
    publish(client, recipe(name))
    error = error_of(lambda: publish(client, recipe(name)))
    assert (error["Code"], error["status"]) == ("ConflictException", 409)
    assert f"[{name} : 1.0.0] already exists" in error["Message"]


def test_a_client_token_makes_the_same_request_idempotent(client: Client, name: str) -> None:
    token = uuid.uuid4().hex
    first, again = (publish(client, recipe(name), clientToken=token) for _ in range(2))
    assert first["creationTimestamp"] == again["creationTimestamp"]
    other = recipe(name, "1.0.1")
    assert error_of(lambda: publish(client, other, clientToken=token))["Code"] == "ConflictException"


def test_an_artifact_that_is_not_there_is_refused_and_nothing_is_made(client: Client, name: str) -> None:
    uri = "s3://artifacts/no/such.zip"
    error = error_of(lambda: publish(client, recipe(name, artifact=uri)))
    assert error["Code"] == "ValidationException"
    assert f"{uri} = Specified artifact resource cannot be accessed" in error["Message"]
    assert error_of(lambda: client("greengrassv2").list_component_versions(
        arn=f"arn:aws:greengrass:us-east-1:123456789012:components:{name}"))["Code"] == "ResourceNotFoundException"  # fmt: skip


def broken(**changes: Any) -> dict[str, Any]:
    return {**recipe("com.example.Broken"), **changes}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (b"{", "neither JSON nor YAML"),
        (b"- a list", "must be an object"),
        (b"x" * 16_001, "at most 16000"),
        (broken(RecipeFormatVersion="2021"), "RecipeFormatVersion"),
        (broken(ComponentName="a b"), "ComponentName"),
        (broken(ComponentVersion="1.0"), "ComponentVersion"),
        (broken(ComponentTyp="x"), "'ComponentTyp' is not known"),
        (broken(ComponentDescription=1), "ComponentDescription"),
        (broken(Manifests=[]), "at least one manifest"),
        (broken(Manifests={}), "at least one manifest"),
        (broken(Manifests=[{"Platform": {"os": 1}}]), "Manifests[0].Platform"),
        (broken(Manifests=[{"Lifecycle": {"run": {"Script": 1}}}]), "Manifests[0].Lifecycle.run.Script"),
        (broken(Manifests=[{"Lifecycle": {"run": "a", "startup": "b"}}]), "exclude each other"),
        (broken(Manifests=[{"Lifecycle": {"run": {"Timeout": "60"}}}]), "Timeout"),
        (broken(Manifests=[{"Artifacts": [{"Uri": "file:///x"}]}]), "Manifests[0].Artifacts[0].Uri"),
        (broken(Manifests=[{"Artifacts": [{"Uri": "s3://b/k", "Digest": "x"}]}]), "added by the cloud"),
        (broken(Manifests=[{"Artifacts": [{"Uri": "s3://b/k", "Unarchive": "TAR"}]}]), "Unarchive"),
        (broken(Manifests=[{"Artifacts": [{"Uri": "s3://b/k", "Permission": {"Read": "SOME"}}]}]), "Permission"),
        (broken(ComponentDependencies={"a": {"VersionRequirement": "so so"}}), "ComponentDependencies.a"),
        (broken(ComponentDependencies={"a": {"VersionRequirement": "*", "DependencyType": "X"}}), "DependencyType"),
        (broken(ComponentConfiguration={"DefaultConfiguration": []}), "DefaultConfiguration"),
    ],
)  # fmt: skip
def test_a_malformed_recipe_is_refused_by_its_place(client: Client, document: Any, place: str) -> None:
    error = error_of(lambda: publish(client, document))
    assert (error["Code"], error["status"]) == ("ValidationException", 400)
    assert place in error["Message"]


@pytest.mark.parametrize("uri", ["docker:alpine", "greengrass:aws/x.zip", "https://example.com/x"])
def test_artifacts_from_elsewhere_answer_501(client: Client, uri: str) -> None:
    assert error_of(lambda: publish(client, recipe("com.example.Elsewhere", artifact=uri)))["status"] == 501


def test_neither_recipe_nor_lambda_is_invalid_and_a_lambda_is_not_real(client: Client) -> None:
    create = client("greengrassv2").create_component_version
    assert error_of(create)["Code"] == "ValidationException"
    assert error_of(lambda: create(lambdaFunction={"lambdaArn": "arn:aws:lambda:x"}))["status"] == 501


def test_lists_are_paged_with_the_highest_version_first(client: Client, name: str) -> None:
    for version in ("1.9.0", "1.10.0", "1.10.0-rc.1"):
        publish(client, recipe(name, version))
    arn = f"arn:aws:greengrass:us-east-1:123456789012:components:{name}"
    pages = (
        client("greengrassv2")
        .get_paginator("list_component_versions")
        .paginate(arn=arn, PaginationConfig={"PageSize": 2})
    )
    versions = [entry["componentVersion"] for page in pages for entry in page["componentVersions"]]
    assert versions == ["1.10.0", "1.10.0-rc.1", "1.9.0"]
    listed = {entry["componentName"]: entry for entry in client("greengrassv2").list_components()["components"]}
    assert listed[name]["latestVersion"]["componentVersion"] == "1.10.0"
    assert client("greengrassv2").list_components(scope="PUBLIC")["components"] == []


def test_delete_forgets_one_version(client: Client, name: str) -> None:
    arn = publish(client, recipe(name))["arn"]
    client("greengrassv2").delete_component(arn=arn)
    error = error_of(lambda: client("greengrassv2").describe_component(arn=arn))
    assert (error["Code"], error["status"]) == ("ResourceNotFoundException", 404)
    assert publish(client, recipe(name))["arn"] == arn


def test_tags_can_be_changed(client: Client, name: str) -> None:
    arn = publish(client, recipe(name), tags={"a": "1"})["arn"]
    client("greengrassv2").tag_resource(resourceArn=arn, tags={"b": "2"})
    client("greengrassv2").untag_resource(resourceArn=arn, tagKeys=["a"])
    assert client("greengrassv2").list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}


def test_an_artifact_can_be_fetched_by_its_presigned_url(client: Client, name: str, artifact: str) -> None:
    arn = publish(client, recipe(name, artifact=artifact))["arn"]
    got = client("greengrassv2").get_component_version_artifact(arn=arn, artifactName="model.zip")
    with urllib.request.urlopen(got["preSignedUrl"]) as response:
        assert response.read() == ARTIFACT
    missing = error_of(lambda: client("greengrassv2").get_component_version_artifact(arn=arn, artifactName="no.zip"))
    assert missing["Code"] == "ResourceNotFoundException"


# What a device asks without a signature


class Unsigned:
    def __init__(self, url: str, thing_name: str) -> None:
        self.url, self.thing_name = url, thing_name

    def __call__(self, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        headers = {"x-amzn-iot-thingname": self.thing_name, "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, content, headers)) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture
def device(client: Client, local_cloud: LocalCloud, name: str) -> Unsigned:
    thing = name.rpartition(".")[2]
    client("iot").create_thing(thingName=thing)
    return Unsigned(local_cloud.url, thing)


def candidate(name: str, requirements: dict[str, str], **more: str) -> dict[str, Any]:
    return {
        "componentCandidates": [{"componentName": name, "versionRequirements": requirements, **more}],
        "platform": {"name": "linux", "attributes": LINUX},
    }


def test_a_device_reads_its_groups(client: Client, device: Unsigned) -> None:
    parent, child = f"p-{device.thing_name}", f"c-{device.thing_name}"
    client("iot").create_thing_group(thingGroupName=parent)
    client("iot").create_thing_group(thingGroupName=child, parentGroupName=parent)
    client("iot").add_thing_to_thing_group(thingName=device.thing_name, thingGroupName=child)
    status, answer = device(f"/greengrass/v2/coreDevices/{device.thing_name}/thingGroups")
    arn = "arn:aws:iot:us-east-1:123456789012:thinggroup"
    assert (status, answer["thingGroups"]) == (200, [{
        "thingGroupArn": f"{arn}/{child}", "thingGroupName": child,
        "rootToParentThingGroups": [{"thingGroupArn": f"{arn}/{parent}", "thingGroupName": parent}],
    }])  # fmt: skip


def test_a_device_is_only_itself(device: Unsigned, local_cloud: LocalCloud) -> None:
    assert device("/greengrass/v2/coreDevices/another/thingGroups")[0] == 403
    status, answer = Unsigned(local_cloud.url, "nobody")("/greengrass/v2/coreDevices/nobody/thingGroups")
    assert (status, answer["__type"]) == (403, "AccessDeniedException")


def test_a_device_resolves_the_highest_version_that_satisfies_everybody(
    client: Client, device: Unsigned, name: str, artifact: str
) -> None:
    for version in ("1.0.0", "1.5.0", "2.0.0"):
        publish(client, recipe(name, version, artifact))
    path = "/greengrass/v2/resolveComponentCandidates"
    status, answer = device(path, candidate(name, {"group": ">=1.0.0", "requirements": "1.0.0 >=1.0.0"}))
    [resolved] = answer["resolvedComponentVersions"]
    assert (status, resolved["componentVersion"]) == (200, "1.0.0")
    got = json.loads(base64.b64decode(resolved["recipe"]))
    assert got["Manifests"][0]["Artifacts"][0]["Algorithm"] == "SHA-256"
    status, answer = device(path, candidate(name, {"a": ">=1.0.0", "b": "<2.0.0"}))
    assert answer["resolvedComponentVersions"][0]["componentVersion"] == "1.5.0"
    status, answer = device(path, candidate(name, {"a": ">=3.0.0"}))
    assert (status, answer["__type"]) == (404, "ResourceNotFoundException")
    assert device(path, candidate(name, {"a": "nonsense"}))[0] == 400
    assert device(path, {"componentCandidates": "none"})[0] == 400


def test_a_device_gets_credentials_by_role_alias_and_reads_s3_with_them(
    client: Client, device: Unsigned, artifact: str, local_cloud: LocalCloud
) -> None:
    role = client("iam").create_role(RoleName=f"r-{device.thing_name}", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client("iot").create_role_alias(roleAlias=f"a-{device.thing_name}", roleArn=role)
    status, answer = device(f"/role-aliases/a-{device.thing_name}/credentials")
    assert status == 200
    assert set(answer["credentials"]) == {"accessKeyId", "secretAccessKey", "sessionToken", "expiration"}
    s3 = boto3.client(
        "s3",
        endpoint_url=local_cloud.url,
        region_name="us-east-1",
        aws_access_key_id=answer["credentials"]["accessKeyId"],
        aws_secret_access_key=answer["credentials"]["secretAccessKey"],
        aws_session_token=answer["credentials"]["sessionToken"],
    )
    assert s3.get_object(Bucket="artifacts", Key="digest/model.zip")["Body"].read() == ARTIFACT
    assert device("/role-aliases/none/credentials")[0] == 404


def test_a_device_finds_artifacts_of_a_version(client: Client, device: Unsigned, name: str, artifact: str) -> None:
    arn = publish(client, recipe(name, artifact=artifact))["arn"]
    quoted = urllib.parse.quote(arn, safe="")
    status, answer = device(f"/greengrass/v2/components/{quoted}/artifacts/model.zip")
    assert status == 200
    assert answer["preSignedUrl"].startswith("http://127.0.0.1")


# Resolution, as a property of the catalog alone


def catalog(versions: list[str]) -> ComponentCatalog:
    made = ComponentCatalog("arn:aws:greengrass:us-east-1:123456789012", lambda uri: "digest")
    for version in dict.fromkeys(versions):
        made.create(json.dumps(recipe("c", version)).encode(), {}, None, utc_now())
    return made


NUMBERS = st.tuples(*(st.integers(0, 4),) * 3)


def text_of(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


@given(st.lists(NUMBERS, min_size=1, max_size=12), NUMBERS, NUMBERS)
def test_resolution_takes_the_highest_inside_all_ranges(
    versions: list[tuple[int, ...]], low: tuple[int, ...], high: tuple[int, ...]
) -> None:
    found = catalog([text_of(numbers) for numbers in versions])
    asked = Candidate("c", {"a": f">={text_of(low)}", "b": f"<{text_of(high)}"})
    expected = [numbers for numbers in versions if low <= numbers < high]
    if expected:
        assert found.resolve(asked, LINUX).recipe.version == text_of(max(expected))
    else:
        with pytest.raises(AwsError, match="ResourceNotFoundException"):
            found.resolve(asked, LINUX)


@given(st.lists(NUMBERS, min_size=1, max_size=12), st.data())
def test_a_version_that_a_device_has_is_kept_while_it_satisfies(
    versions: list[tuple[int, ...]], data: st.DataObject
) -> None:
    has = text_of(data.draw(st.sampled_from(versions)))
    found = catalog([text_of(numbers) for numbers in versions])
    assert found.resolve(Candidate("c", {"a": "*"}, has), LINUX).recipe.version == has
    assert found.resolve(Candidate("c", {"a": f"={has}"}), LINUX).recipe.version == has


@given(st.lists(NUMBERS, min_size=1, max_size=12), NUMBERS)
def test_caret_never_crosses_a_major_version(versions: list[tuple[int, ...]], base: tuple[int, ...]) -> None:
    found = catalog([text_of(numbers) for numbers in versions])
    try:
        resolved = found.resolve(Candidate("c", {"a": f"^{text_of(base)}"}), LINUX).recipe.version
    except AwsError:
        assert not [numbers for numbers in versions if numbers[0] == base[0] >= 1 and numbers >= base]
    else:
        numbers = tuple(map(int, resolved.split(".")))
        assert numbers[0] == base[0]
        assert numbers >= base


@pytest.mark.parametrize(
    ("platform", "runs"),
    [
        ({}, True),
        ({"os": "linux"}, True),
        ({"os": "all", "runtime": "*"}, True),
        ({"os": "windows"}, False),
        ({"architecture": "/x86.*|aarch64/"}, True),
        ({"architecture": "aarch64"}, False),
        ({"architecture.detail": "armv7"}, True),
    ],
)
def test_platforms(platform: dict[str, str], runs: bool) -> None:
    assert runs_on(platform, LINUX) is runs
