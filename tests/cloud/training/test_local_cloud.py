"""The commands, on the local cloud, with real jobs: train, compile, and the ways they fail."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud.aws.s3 import ObjectStore
from cloud.aws.session import AwsSession
from cloud.cli.app import main
from cloud.compilation.result import Compilation
from cloud.s3_uri import S3Uri

ROOT = Path(__file__).resolve().parents[3]
WEATHER = ROOT / "models" / "weather"
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    from simulator.aws.server import CloudOptions, LocalCloud

    with LocalCloud(CloudOptions(tmp_path_factory.mktemp("cloud"))) as cloud:
        yield {
            "AWS_ENDPOINT_URL": cloud.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "EDGEWRIGHT_BUCKET": "loop",
            "COLUMNS": "300",
        }


@pytest.fixture(scope="module")
def cli(variables: dict[str, str]) -> Cli:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cloud.cli.app", *map(str, arguments), "-o", "json"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT)

    return run


@pytest.fixture(scope="module")
def store(variables: dict[str, str]) -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        objects = ObjectStore(AwsSession("us-east-1"))
        objects.ensure_bucket("loop", "us-east-1")
        yield objects


@pytest.fixture(scope="module")
def observations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("observations")
    command = [sys.executable, str(WEATHER / "data.py"), "--output", str(folder), "--to", "2013-03-01"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def trained(cli: Cli, store: ObjectStore, observations: Path, larger: Path) -> dict:
    done = cli("train", larger, "--data", observations, "--name", "weather-1")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weather model, with a machine of another size to be compiled on."""
    folder = tmp_path_factory.mktemp("models") / "weather"
    shutil.copytree(WEATHER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "model.toml").read_text()
    head, _, tail = text.partition("[compilation]")
    sized = tail.replace("ml.m5.large", "ml.m5.4xlarge").replace("volume_gb = 10", "volume_gb = 77")
    (folder / "model.toml").write_text(f"{head}[compilation]{sized}")
    return folder


def machine_of(name: str) -> tuple[str, int, int]:
    job = AwsSession("us-east-1").client("sagemaker").describe_processing_job(ProcessingJobName=name)
    cluster = job["ProcessingResources"]["ClusterConfig"]
    return cluster["InstanceType"], cluster["VolumeSizeInGB"], job["StoppingCondition"]["MaxRuntimeInSeconds"]


def test_training_ends_with_an_artifact_and_final_metrics(store: ObjectStore, trained: dict) -> None:
    assert trained["artifact_uri"] == "s3://loop/training/weather-1/output/model.tar.gz"
    assert trained["metrics"]["validation:log_loss"] + 0.01 < trained["metrics"]["persistence:log_loss"]
    assert store.get_bytes(S3Uri.parse(trained["artifact_uri"]))[:2] == b"\x1f\x8b"


def test_the_same_name_again_is_the_same_job(cli: Cli, trained: dict, observations: Path, larger: Path) -> None:
    again = cli("train", larger, "--data", observations, "--name", "weather-1")
    assert json.loads(again.stdout) == trained


def test_a_training_job_is_compiled_by_its_name(cli: Cli, trained: dict, tmp_path: Path) -> None:
    done = cli("compile", "weather-1", "--to", tmp_path)
    assert done.returncode == 0, done.stderr
    assert machine_of(json.loads(done.stdout)["job_name"]) == ("ml.m5.4xlarge", 77, 900), "by the job's own model.toml"
    compilation = Compilation.load(tmp_path)
    assert [variant.platform for variant in compilation.variants] == ["linux/x86_64", "linux/aarch64"]
    assert compilation.lineage["training_job_arn"] == trained["job_arn"]
    assert (tmp_path / compilation.variants[0].model_path).is_file()
    assert (tmp_path / "baseline.json").is_file()


def test_an_artifact_of_unknown_origin_is_compiled_on_the_machine_that_is_named(
    cli: Cli, trained: dict, larger: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    shutil.copytree(larger, one)
    text = (one / "model.toml").read_text()
    (one / "model.toml").write_text(text.replace('["linux/x86_64", "linux/aarch64"]', '["linux/x86_64"]'))
    done = cli("compile", trained["artifact_uri"], "--model", one, "--name", "sized-1", "--to", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert machine_of("sized-1") == ("ml.m5.4xlarge", 77, 900)
    assert [variant.platform for variant in Compilation.load(tmp_path / "out").variants] == ["linux/x86_64"]
    unknown = cli("compile", trained["artifact_uri"], "--name", "sized-2", "--no-wait")
    assert "No model.toml is known for it: compiling on ml.m5.large; --model names one." in unknown.stderr
    assert machine_of("sized-2") == ("ml.m5.large", 10, 900)


def test_the_model_in_service_can_be_the_incumbent(cli: Cli, trained: dict, observations: Path, tmp_path: Path) -> None:
    compiled = cli("compile", "weather-1", "--to", tmp_path)
    incumbent = f"{json.loads(compiled.stdout)['output_uri']}/linux-x86_64/"
    done = cli("train", WEATHER, "--data", observations, "--incumbent", incumbent, "--hyperparameter", "seed=1",
               "--hyperparameter", "gain_log_loss=-1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["incumbent:log_loss"] == pytest.approx(trained["metrics"]["validation:log_loss"])


def test_a_script_that_raises_is_shown_with_its_last_lines(cli: Cli, store: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(WEATHER, folder)
    (folder / "training.py").write_text("print('reading')\nraise RuntimeError('the sensor file is upside down')\n")
    done = cli("train", folder, "--data", WEATHER)
    assert done.returncode == 1
    assert "RuntimeError: the sensor file is upside down" in done.stderr
    assert "cloud/cli" not in done.stderr, "the script's lines, not ours"


def test_a_model_that_is_not_good_enough_says_why(cli: Cli, store: ObjectStore, observations: Path) -> None:
    done = cli("train", WEATHER, "--data", observations, "--hyperparameter", "margin_auc=0.9")
    assert done.returncode == 1
    assert "does not beat the majority forecast on held-out time" in done.stderr


def test_a_refused_model_ends_in_a_clear_report(cli: Cli, store: ObjectStore, trained: dict, tmp_path: Path) -> None:
    artifact = store.get_file(S3Uri.parse(trained["artifact_uri"]), tmp_path / "model.tar.gz")
    (tmp_path / "model").mkdir()
    shutil.unpack_archive(artifact, tmp_path / "model", filter="data")
    (tmp_path / "model" / "model.onnx").write_text("hello")
    packed = shutil.make_archive(str(tmp_path / "bad"), "gztar", tmp_path / "model")
    store.put_file(S3Uri("loop", "bad/model.tar.gz"), Path(packed))
    done = cli("compile", "s3://loop/bad/model.tar.gz", "--name", "refused-1")
    assert done.returncode == 3
    assert "weather is refused: the file is not an ONNX model" in done.stderr
    report = store.get_bytes(S3Uri("loop", "compilations/refused-1/report.txt")).decode()
    assert "weather is refused" in report


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (("compile", "nobody"), 4, "there is no training job nobody"),
        (("compile", "models/weather"), 3, "is on this machine"),
        (("compile", "none", "--local"), 3, "needs --to"),
        (("compile", "none", "--local", "--model", "models/weather"), 3, "--model sizes a job"),
        (("compile", "x.onnx", "--to", "out"), 3, "needs --samples and --model-name"),
        (("compile", "nobody", "--platform", "windows"), 3, "--platform 'windows' is none of"),
        (("train", "tests"), 3, "model.toml cannot be read"),
        (("train", "models/weather", "--hyperparameter", "seed"), 3, "is not name=value"),
    ],
)
def test_bad_input_is_named(
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    exit_code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["edgewright", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == exit_code
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_an_artifact_is_compiled_on_this_machine(cli: Cli, store: ObjectStore, trained: dict, tmp_path: Path) -> None:
    artifact = store.get_file(S3Uri.parse(trained["artifact_uri"]), tmp_path / "model.tar.gz")
    done = cli("compile", artifact, "--local", "--to", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert Compilation.load(tmp_path / "out").model_name == "weather"
