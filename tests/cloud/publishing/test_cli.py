"""The command line against the local cloud: its results, its exit codes, and every interruption it survives."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud.aws.greengrass import Components
from cloud.aws.kms import KeyManagement
from cloud.aws.model_registry import ModelRegistry
from cloud.aws.s3 import ObjectStore
from cloud.aws.sagemaker import SageMakerJobs
from cloud.cli.app import main
from cloud.s3_uri import S3Uri
from cloud.settings import checkout_root
from tests.cloud.compilation.graphs import classifier
from tests.cloud.publishing.conftest import Aws, MakeFolder, linear_model

LINEAR = "com.edgewright.model.Linear"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Done:
    """The command's own entry point, in this process (starting Python for each would take a minute)."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setattr(sys, "argv", ["edgewright", *arguments])
        patch.setenv("COLUMNS", "200")
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return Done(code, stdout.getvalue(), stderr.getvalue())


def succeed(*arguments: str) -> Any:
    done = run(*arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refuse(exit_code: int, *arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "remedy:" in done.stderr
    return " ".join(done.stderr.split())


def add_fleet(aws: Aws, groups: dict[str, Sequence[str]]) -> None:
    iot = aws.session.client("iot")
    for group, things in groups.items():
        iot.create_thing_group(thingGroupName=group)
        for thing in things:
            iot.create_thing(thingName=thing)
            iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)


def stub_runtime(aws: Aws, version: str) -> None:
    """A published runtime that is a recipe and an empty artifact: these tests deploy documents, not devices."""
    ObjectStore(aws.session).put_bytes(S3Uri(aws.bucket, "runtime.zip"), b"content")
    manifest = {
        "Platform": {"os": "linux", "runtime": "*"},
        "Lifecycle": {"run": {"Script": "exec true"}},
        "Artifacts": [{"Uri": f"s3://{aws.bucket}/runtime.zip", "Unarchive": "NONE"}],
    }
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": "com.edgewright.Runtime",
        "ComponentVersion": version,
        "Manifests": [manifest],
    }
    client = aws.session.client("greengrassv2")
    client.create_component_version(inlineRecipe=json.dumps(recipe).encode())


def test_publish_signs_uploads_creates_and_registers(aws: Aws, make_folder: MakeFolder, tmp_path: Path) -> None:
    published = succeed("publish", str(make_folder()), "--version", "3.0.0")
    assert (published["component_name"], published["version"], published["release"]) == (LINEAR, "3.0.0", 1)
    package = aws.session.client("sagemaker").describe_model_package(ModelPackageName=published["model_package_arn"])
    assert package["ModelApprovalStatus"] == "Approved"
    assert package["CustomerMetadataProperties"]["version"] == "3.0.0"
    public_key = tmp_path / "key.pub"
    assert run("keys", "export", "--to", str(public_key)).returncode == 0
    for bundle in published["bundles"]:
        archive = tmp_path / "a.zip"
        ObjectStore(aws.session).get_file(S3Uri.parse(bundle["archive_uri"]), archive)
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == bundle["archive_sha256"]
        folder = tmp_path / bundle["platform"].replace("/", "-")
        zipfile.ZipFile(archive).extractall(folder)
        command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
        options = ["--signature", str(folder / "model.sig"), "--public_key", str(public_key)]
        subprocess.run([*command, *options], check=True, capture_output=True)


def test_publish_reads_what_a_job_left_in_s3(aws: Aws, make_folder: MakeFolder) -> None:
    folder, store = make_folder(), ObjectStore(aws.session)
    for path in folder.rglob("*"):
        if path.is_file():
            store.put_file(S3Uri(aws.bucket, f"jobs/7/output/{path.relative_to(folder)}"), path)
    published = succeed("publish", f"s3://{aws.bucket}/jobs/7", "--version", "4.0.0")
    assert published["version"] == "4.0.0"
    sentence = refuse(3, "publish", f"s3://{aws.bucket}/elsewhere/")
    assert "there is no compilation.json" in sentence


def test_s3_down_at_any_request_of_a_publish_is_completed_by_the_same_command(
    aws: Aws, make_folder: MakeFolder
) -> None:
    folder = make_folder()
    arguments = ("publish", str(folder), "--version", "5.0.0")
    outages = (2, 7, 12)
    for admitted_count in outages:
        aws.proxy.outage_after = admitted_count
        sentence = refuse(5, *arguments)
        assert "no answer from AWS" in sentence
        assert "run the same command again" in sentence
    aws.proxy.outage_after = None
    published = succeed(*arguments)
    assert (published["version"], published["release"]) == ("5.0.0", 1)
    assert succeed(*arguments) == published
    for options, note in (((), False), (("--valid-days", "366"), False), (("--valid-days", "30"), True)):
        again = run(*arguments, *options)
        assert again.returncode == 0
        assert ("it keeps its expiry" in again.stderr) == note, "what a version once said does not change"
    rejected = run(*arguments, "--approval", "Rejected")
    assert "--approval changes nothing" in rejected.stderr
    assert f"update-model-package --model-package-arn {published['model_package_arn']}" in rejected.stderr


PHASES = [
    (KeyManagement, "sign"), (ObjectStore, "put_new"), (ObjectStore, "put_immutable"), (Components, "create"),
    (Components, "find"), (ModelRegistry, "create"),
]  # fmt: skip


def test_a_publish_that_is_interrupted_anywhere_says_how_to_go_on_and_is_completed(
    aws: Aws, make_folder: MakeFolder
) -> None:
    arguments = ("publish", str(make_folder()), "--version", "5.5.0")
    for kind, method in PHASES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, method, interrupted)
            assert "Run the same command again: it completes" in refuse(130, *arguments)
    published = succeed(*arguments)
    assert (published["version"], published["release"]) == ("5.5.0", 1)


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_a_job_that_is_left_alone_is_named(aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a")
    train = ("train", str(checkout_root() / "models/weather"), "--data", str(tmp_path), "--name", "left-alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SageMakerJobs, "start", interrupted)
        assert "Run the command again with --name left-alone" in refuse(130, *train)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloud.cli.train.await_result", interrupted)
        assert "nothing was submitted" not in refuse(130, *train)
        sentence = refuse(130, *train)
    assert "left-alone exists: it is followed, and nothing was submitted" in sentence
    assert "--name left-alone follows it again" in sentence
    assert "stop-training-job --training-job-name left-alone ends it" in sentence


def test_bad_input_is_refused_by_its_name(aws: Aws, make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder("one")
    succeed("publish", str(folder), "--version", "6.0.0")
    other = make_folder("two", slope=9.0)
    assert "exists with other content" in refuse(4, "publish", str(other), "--version", "6.0.0")
    assert "alias/absent" in refuse(4, "publish", str(other), "-v", "6.1.0", "--key", "kms:alias/absent")
    assert "cannot be read" in refuse(3, "publish", str(other), "-v", "6.1.0", "--key", str(tmp_path / "no.pem"))
    assert "is not a version" in refuse(3, "publish", str(other), "-v", "six")
    assert "--approval 'Maybe'" in refuse(3, "publish", str(other), "--approval", "Maybe")
    assert "either a compilation" in refuse(3, "publish")
    (other / "golden.npz").unlink()
    assert "golden.npz is missing" in refuse(3, "publish", str(other), "-v", "6.1.0")
    versions = aws.session.client("greengrassv2").list_component_versions(
        arn=f"arn:aws:greengrass:us-east-1:123456789012:components:{LINEAR}"
    )["componentVersions"]
    assert "6.1.0" not in [entry["componentVersion"] for entry in versions]


def test_an_onnx_file_of_ones_own_is_compiled_and_published(aws: Aws, tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "own.onnx").write_bytes(linear_model(2.0).SerializeToString())
    np.savez(tmp_path / "samples.npz", x=np.ones((3, 1, 3), np.float32))
    own = ("--onnx", str(tmp_path / "own.onnx"), "--samples", str(tmp_path / "samples.npz"), "--name", "own-linear")
    published = succeed("publish", *own)
    assert published["component_name"] == "com.edgewright.model.OwnLinear"
    assert [bundle["platform"] for bundle in published["bundles"]] == ["linux/aarch64", "linux/x86_64"]
    (tmp_path / "own.onnx").write_bytes(b"not ONNX")
    assert "is not a version" in refuse(3, "publish", *own, "-v", "9.0"), "before a model is looked at"
    assert "own.onnx" in refuse(3, "publish", *own, "-v", "9.0.0")


def test_a_model_of_ones_own_is_published_in_fp32_where_that_is_asked_for(aws: Aws, tmp_path: Path) -> None:
    import numpy as np

    random = np.random.default_rng(0)
    (tmp_path / "own.onnx").write_bytes(classifier().SerializeToString())
    np.savez(tmp_path / "samples.npz", x=random.normal(size=(64, 1, 8)).astype(np.float32))
    own = ("--onnx", str(tmp_path / "own.onnx"), "--samples", str(tmp_path / "samples.npz"), "--name", "own-classes")
    precisions = [
        {bundle["precision"] for bundle in succeed("publish", *own, *options)["bundles"]}
        for options in ((), ("--precision", "fp32"))
    ]
    assert precisions == [{"int8"}, {"fp32"}]
    assert "none of auto, fp32" in refuse(3, "publish", *own, "--precision", "int4")
    assert "Compile it with --precision" in refuse(3, "publish", str(tmp_path), "--precision", "fp32")


def test_deploy_pins_waits_and_refuses(aws: Aws, make_folder: MakeFolder) -> None:
    stub_runtime(aws, "0.1.0")
    succeed("publish", str(make_folder()), "--version", "7.0.0")
    add_fleet(aws, {"stations": ("ewr", "jfk")})
    row = succeed("deploy", "linear", "7.0.0", "--to", "stations", "--dry-run")[0]
    assert row["target"] == "stations"
    assert aws.session.client("greengrassv2").list_deployments()["deployments"] == []
    deployed = succeed("deploy", "linear", "7.0.0", "--to", "stations", "--runtime-config", '{"heartbeat_s": 5}')
    (deployment,) = deployed["deployments"]
    assert deployment["components"]["com.edgewright.Runtime"]["componentVersion"] == "0.1.0"
    assert deployment["is_new"]
    upgraded = succeed("deploy", "runtime", "0.1.0", "--to", "stations", "--runtime-reset", "/accessControl")
    assert set(upgraded["deployments"][0]["components"]) == {LINEAR, "com.edgewright.Runtime"}
    sentence = refuse(5, "deploy", "linear", "7.0.0", "--to", "stations", "--wait", "--timeout-s", "1")
    assert "2 of 2 devices have not finished: ewr" in sentence
    assert "Did you mean stations" in refuse(4, "deploy", "linear", "7.0.0", "--to", "station")
    assert "is not published" in refuse(4, "deploy", "linear", "7.7.7", "--to", "stations")
    assert "no model 'nothing'" in refuse(4, "deploy", "nothing", "1.0.0", "--to", "stations")
    large = json.dumps({"labels": "x" * 4000})
    assert "job document" in refuse(3, "deploy", "linear", "7.0.0", "--to", "stations", "--runtime-config", large)
    assert "edgewright undeploy linear" in refuse(3, "deploy", "linear", "0.0.1", "--to", "stations")
    assert "is not JSON" in refuse(3, "deploy", "linear", "7.0.0", "--to", "stations", "--runtime-config", "{")


def test_a_deployment_that_is_interrupted_is_kept_and_completed(aws: Aws, make_folder: MakeFolder) -> None:
    """A real signal, while it waits for devices that are never online."""
    stub_runtime(aws, "0.3.0")
    succeed("publish", str(make_folder()), "--version", "5.6.0")
    add_fleet(aws, {"never": ("never-online",)})
    wanted = ("deploy", "linear", "5.6.0", "--to", "never", "--wait")
    command = [sys.executable, "-m", "cloud.cli.app", *wanted]
    with subprocess.Popen(
        command, cwd=checkout_root(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("waiting for devices" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "deploying was interrupted" in stderr
    assert "What was deployed goes on" in stderr
    again = succeed("deploy", "linear", "5.6.0", "--to", "never")
    assert [one["is_new"] for one in again["deployments"]] == [False]


def test_a_ring_with_nobody_in_it_is_no_silent_success(aws: Aws, make_folder: MakeFolder) -> None:
    stub_runtime(aws, "0.4.0")
    succeed("publish", str(make_folder()), "--version", "5.7.0")
    add_fleet(aws, {"nobody": ()})
    for options in (("--dry-run",), ("--wait",)):
        done = run("deploy", "linear", "5.7.0", "--to", "nobody", *options)
        assert done.returncode == 0
        assert "nobody: no device is in it; the deployment is for those that join" in done.stderr


def test_keys_are_made_and_never_overwritten(aws: Aws, tmp_path: Path) -> None:
    path, public = tmp_path / "key.pem", tmp_path / "key.pub"
    made = succeed("keys", "create", "--file", str(path), "--public", str(public))
    assert made["is_new"]
    exported = run("keys", "export", "--key", str(path))
    assert exported.stdout == public.read_text()
    assert "exists" in refuse(4, "keys", "create", "--file", str(path))
    assert "either in KMS or in a file" in refuse(3, "keys", "create", "--file", str(path), "--alias", "both")
    made = succeed("keys", "create", "--alias", "made-here")
    assert made["key"] == "kms:alias/made-here"


def test_the_command_is_a_program(aws: Aws) -> None:
    command = [sys.executable, "-m", "cloud.cli.app", "publish", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout_root(), env={**os.environ})
    assert done.returncode == 3
    assert "nowhere/compilation.json cannot be read" in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_a_key_without_options_is_the_one_that_settings_name(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_SIGNING_KEY", "kms:alias/named-by-settings")
    assert succeed("keys", "create")["key"] == "kms:alias/named-by-settings"
    assert succeed("keys", "create")["is_new"] is False
    monkeypatch.setenv("EDGEWRIGHT_SIGNING_KEY", str(tmp_path / "own.pem"))
    assert succeed("keys", "create")["is_new"] is True
    monkeypatch.setenv("EDGEWRIGHT_SIGNING_KEY", "kms:1234abcd-12ab-34cd-56ef-1234567890ab")
    assert "by its id" in refuse(3, "keys", "create")


@pytest.mark.parametrize("command", ["publish", "publish-runtime", "deploy", "keys"])
def test_help_shows_examples(command: str) -> None:
    arguments = (command, "create", "--help") if command == "keys" else (command, "--help")
    shown = run(*arguments)
    assert shown.returncode == 0
    assert f"edgewright {command}" in shown.stdout


def test_the_stage_of_the_retraining_loop_leaves_its_result(aws: Aws, make_folder: MakeFolder, tmp_path: Path) -> None:
    def stage(folder: Path, output: Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "cloud.publishing.stage", "--compilation", str(folder), "--version", "auto"]
        options = ["--output", str(output)]
        return subprocess.run([*command, *options], capture_output=True, text=True, cwd=checkout_root())

    nested = tmp_path / "input"
    nested.mkdir()
    make_folder("one").rename(nested / "compilation")
    done = stage(nested, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "out" / "publication.json").read_bytes())
    assert first["model_package_arn"].startswith("arn:aws:sagemaker:")
    again = stage(nested, tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again" / "publication.json").read_bytes()) == first
    (nested / "compilation" / "golden.npz").unlink()
    refused = stage(nested, tmp_path / "refused")
    assert refused.returncode == 3
    failure = json.loads((tmp_path / "refused" / "failure.json").read_bytes())
    assert failure["code"] == "compilation-incomplete"
    assert not (tmp_path / "refused" / "publication.json").exists()
