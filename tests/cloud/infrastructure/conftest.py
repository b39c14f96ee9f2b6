"""The settings of an installation that chose nothing."""

import pytest

from cloud.settings import Settings


@pytest.fixture
def settings() -> Settings:
    return Settings(region="us-east-1")
