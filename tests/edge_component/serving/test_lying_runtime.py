"""Clients of a runtime that lies get an answer or a typed error, in time; and never a signal."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from edge_component.client import errors
from tests.edge_component.runtime_process import ROOT
from tests.edge_component.serving.lying_runtime import lying_runtime


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize(("lies", "count"), [(0.0, 10), (0.15, 250), (0.5, 250)])
def test_whatever_a_runtime_says_is_an_answer_or_a_typed_error(
    tmp_path: Path, kind: str, lies: float, count: int
) -> None:
    path = tmp_path / "infer.sock"
    command = [sys.executable, "-X", "dev", "-m", "tests.edge_component.serving.lied_to", str(path), kind, str(count)]
    with lying_runtime(path, seed=count, lies=lies):
        asked = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    ends = Counter(asked.stdout.split())
    assert (asked.returncode, asked.stderr, ends.total()) == (0, "", count)
    assert set(ends) <= {*vars(errors), "answered"}
    assert set(ends) >= ({"ProtocolError", "answered"} if lies else {"answered"})
