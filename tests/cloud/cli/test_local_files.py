"""What this machine refuses to read or write is one sentence with a remedy, not a stack trace."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cloud.cli.app import main


@pytest.fixture
def own(tmp_path: Path) -> tuple[str, ...]:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    np.savez(tmp_path / "s.npz", x=np.ones(2, np.float32))
    return (str(tmp_path / "m.onnx"), "--samples", str(tmp_path / "s.npz"), "--model-name", "mine", "--to")


def test_a_folder_that_cannot_be_made_is_named(own: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    command = [sys.executable, "-m", "cloud.cli.app", "compile", *own, str(tmp_path / "taken")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error[local-file]: {tmp_path / 'taken'}: File exists" in done.stderr
    assert "remedy:" in done.stderr


def fails_with(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("cloud.cli.app.app", fail)


def test_a_full_disk_is_said_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fails_with(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "TMPDIR" in capsys.readouterr().err


def test_what_has_nothing_to_do_with_files_keeps_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(monkeypatch, ConnectionResetError(errno.ECONNRESET, "reset"))
    with pytest.raises(ConnectionResetError):
        main()
