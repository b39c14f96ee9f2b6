import shutil
from pathlib import Path

import pytest

from cloud.errors import InvalidInputError
from cloud.jobs.processing import SMALL_MACHINE, Machine
from cloud.s3_uri import S3Uri
from cloud.training.specification import Specification

WEATHER = Path(__file__).resolve().parents[3] / "models" / "weather"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in WEATHER.glob("*.*"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_the_example_is_read_whole() -> None:
    found = Specification.load(WEATHER)
    assert (found.model_name, found.component_name) == ("weather", "com.edgewright.model.Weather")
    assert found.entry_point in found.sources
    assert found.hyperparameters["max_iter"] == "60"
    assert found.metrics["validation:log_loss"] == "validation:log_loss=([0-9.]+)"
    assert found.platforms == ("linux/x86_64", "linux/aarch64")
    assert (found.training.instance_count, found.compilation.instance_count) == (1, 1)
    assert found.publication == SMALL_MACHINE
    assert found.job_files == (*found.sources, "model.toml")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("edgewright.training/1", "edgewright.training/2", "schema: is 'edgewright.training/2'"),
        ('name = "weather"', 'name = "My Weather"', "model.name: 'My Weather' does not match"),
        ("com.edgewright.model.Weather", "com.acme.Weather", "model.component: 'com.acme.Weather' does not match"),
        ('entry_point = "training.py"', "", "training.entry_point: is missing"),
        (
            'entry_point = "training.py"',
            'entry_point = "seasons.py"',
            "training.entry_point: 'seasons.py' is not among",
        ),
        ('"data.py"]', '"../data.py"]', r"training.sources: '\.\./data\.py' is not a file in"),
        ('"data.py"]', '"dada.py"]', "training.sources: 'dada.py' is not a file in"),
        ("instance_count = 1", "instances = 1", "training.instances: is not a field"),
        ('"ml.m5.large"', '"m5.large"', r"training.instance_type: 'm5.large' does not match"),
        ("volume_gb = 10", "volume_gb = 0", "training.volume_gb: is not within 1"),
        ("alpha = 0.001", "alpha = [1]", "training.hyperparameters.alpha: must be a string"),
        ('validation:auc=([0-9.]+)"', 'validation:auc=([0-9.]+"', "training.metrics.validation:auc: is not a regular"),
        ('validation:auc=([0-9.]+)"', 'validation:auc="', "must hold one group, the number; it holds 0"),
        ('"linux/aarch64"]', '"linux/riscv64"]', r"compilation.platforms\[1\]: 'linux/riscv64' is none of"),
        ('["linux/x86_64", "linux/aarch64"]', "[]", "compilation.platforms: is empty"),
        ("[compilation]", "[compiling]", "compilation: is missing"),
        ("[training]", "[training", "is not TOML"),
    ],
)
def test_errors_name_the_file_and_the_field(folder: Path, old: str, new: str, sentence: str) -> None:
    path = folder / "model.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        Specification.load(folder)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_a_folder_without_specification_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"model\.toml cannot be read: No such file"):
        Specification.load(tmp_path)


def test_true_and_numbers_become_sagemakers_strings(folder: Path) -> None:
    path = folder / "model.toml"
    path.write_text(path.read_text().replace("seed = 0", "seed = true"))
    assert Specification.load(folder).hyperparameters["seed"] == "true"


PUBLICATION = '\n[publication]\ninstance_type = "ml.m5.xlarge"\nvolume_gb = 60\nmax_runtime_s = 1800\n'


def test_publishing_may_have_a_machine_of_its_own(folder: Path) -> None:
    path = folder / "model.toml"
    path.write_text(path.read_text() + PUBLICATION)
    assert Specification.load(folder).publication == Machine("ml.m5.xlarge", 60, 1800)
    path.write_text(path.read_text() + "platforms = []\n")
    with pytest.raises(InvalidInputError, match=r"publication\.platforms: is not a field"):
        Specification.load(folder)


def test_a_specification_that_was_sent_with_a_job_is_read_without_its_sources() -> None:
    origin = S3Uri("bucket", "training/weather-1/code/model.toml")
    found = Specification.from_bytes((WEATHER / "model.toml").read_bytes(), origin)
    assert found.compilation == Specification.load(WEATHER).compilation
    with pytest.raises(InvalidInputError, match=r"s3://bucket/training/weather-1/code/model\.toml is not TOML"):
        Specification.from_bytes(b"\xff", origin)
