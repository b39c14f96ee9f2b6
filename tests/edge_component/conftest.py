"""Tiny real models, signed into real bundles by a signer of the tests' own, and a runtime in a process of its own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.edge_component.bundle_factory import BundleFactory, new_key
from tests.edge_component.runtime_process import RuntimeProcess

os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trust folder with the factory's public key."""
    return tmp_path_factory.mktemp("trust")


@pytest.fixture(scope="session")
def bundles(trust: Path, tmp_path_factory: pytest.TempPathFactory) -> BundleFactory:
    """Makes signed bundles of ``y = x * factor``."""
    factory = BundleFactory(new_key(), tmp_path_factory.mktemp("bundles"))
    factory.write_public_key(trust / "test.pem")
    return factory


@pytest.fixture
def start_runtime(tmp_path: Path, trust: Path, bundles: BundleFactory) -> Iterator[Callable[..., RuntimeProcess]]:
    """Start ``python -m edge_component``; what a test leaves running is killed. ``bundles`` has put its key into ``trust``."""
    started: list[RuntimeProcess] = []

    def start(work: Path | None = None, **keywords: object) -> RuntimeProcess:
        process = RuntimeProcess(work or tmp_path / "work", trust, **keywords)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
