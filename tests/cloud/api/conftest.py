from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from cloud.api.app import create_app
from cloud.api.server import ApiServer
from cloud.fleet.database import Database
from tests.cloud.api.sample_fleet import fill
from tests.cloud.fleet.samples import T0


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path: Path = tmp_path_factory.mktemp("api") / "fleet.db"
    opened = Database(path)
    fill(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[httpx.Client]:
    app = create_app(database, clock=lambda: T0 + timedelta(seconds=200))
    with ApiServer(app) as server, httpx.Client(base_url=server.url) as opened:
        yield opened
