"""The runtime's install step, run by a real shell with Pythons that only write down what they are asked."""

import json
import subprocess
from pathlib import Path

import pytest

from cloud.publishing.recipe import RUNTIME_TEMPLATE, RuntimeRecipe, runtime_recipe
from cloud.settings import checkout_root

STUB = """#!/bin/sh
case "$*" in
  *version_info*) echo {tag} ;;
  "-m venv"*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && echo "{tag} venv" >> {log} ;;
  *) echo "{tag} PYTHONPATH=$PYTHONPATH PYTHONHOME=$PYTHONHOME PIP_CONFIG_FILE=$PIP_CONFIG_FILE $*" >> {log} ;;
esac
"""


class Device:
    """An unpacked artifact, a work folder, and the Pythons of this device in front of everything else on the path."""

    def __init__(self, folder: Path, pythons: dict[str, str], wheel_tag: str) -> None:
        self.work, self.unpacked, self.log = folder / "work", folder / "unpacked", folder / "log"
        self.bin = folder / "bin"
        for made in (self.work, self.bin, self.unpacked / "runtime" / "wheels"):
            made.mkdir(parents=True)
        (self.unpacked / "runtime" / "wheels" / f"numpy-2.0-{wheel_tag}-{wheel_tag}-manylinux.whl").touch()
        for name, tag in pythons.items():
            stub = self.bin / name
            stub.write_text(STUB.format(tag=tag, log=self.log))
            stub.chmod(0o755)
        for name in ("ls", "rm", "mkdir", "cp", "sync", "touch"):
            (self.bin / name).symlink_to(f"/bin/{name}")

    def install(self) -> "subprocess.CompletedProcess[str]":
        template = (checkout_root() / "recipes" / RUNTIME_TEMPLATE).read_text()
        wanted = RuntimeRecipe("1.2.3", {"linux/x86_64": "s3://bucket/a/runtime.zip"}, "rule")
        script: str = json.loads(runtime_recipe(template, wanted))["Manifests"][0]["Lifecycle"]["install"]["Script"]
        script = script.replace("{artifacts:decompressedPath}", str(self.unpacked))
        script = script.replace("{work:path}", str(self.work))
        environment = {"PATH": str(self.bin), "PYTHONPATH": "/elsewhere", "PYTHONHOME": "/elsewhere"}
        return subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=False)

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()


def test_it_takes_a_python_that_there_are_wheels_for_and_nothing_from_the_environment(tmp_path: Path) -> None:
    device = Device(tmp_path, {"python3": "cp39", "python3.13": "cp313", "python3.12": "cp312"}, "cp312")
    assert device.install().returncode == 0
    venv, pip, imports = device.said()
    assert venv == "cp312 venv"
    assert pip.startswith(f"cp312 PYTHONPATH={device.unpacked}/runtime/pip.whl PYTHONHOME= PIP_CONFIG_FILE=/dev/null ")
    assert "--isolated install" in pip
    assert imports.startswith("cp312 PYTHONPATH= PYTHONHOME= PIP_CONFIG_FILE= -c import awsiot")
    assert (device.work / "venv-1.2.3" / "complete").exists()
    assert device.install().returncode == 0
    assert len(device.said()) == 4, "installed already: the imports are tried, and that is all"


@pytest.mark.parametrize("pythons", [{}, {"python3": "cp39"}])
def test_a_device_without_such_a_python_is_told_so(tmp_path: Path, pythons: dict[str, str]) -> None:
    ended = Device(tmp_path, pythons, "cp312").install()
    assert ended.returncode == 1
    assert "no python3 here that this runtime was published for" in ended.stderr
    assert not any((tmp_path / "work").iterdir())
