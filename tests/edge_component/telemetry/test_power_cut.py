"""Power cuts lose nothing that was acknowledged; see power_cuts.py for how they are made."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CUTS = 12


@pytest.mark.root
def test_no_acknowledged_message_is_lost_in_a_power_cut(tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    needs_program("mkfs.ext4")
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("power can only be cut by root, on a machine with loop devices")
    script = Path(__file__).with_name("power_cuts.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    namespace = ["unshare", "--mount", "--propagation", "private"]
    run = subprocess.run(
        [*namespace, sys.executable, str(script), str(tmp_path), str(CUTS)],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["acknowledged"] > CUTS
    assert (told["lost"], told["numbered_twice"]) == (0, 0), told
