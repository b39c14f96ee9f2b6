"""The process itself, under both isolations."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from simulator.aws.container import (
    Container,
    ContainerLimits,
    ContainerSpec,
    Isolation,
    Outcome,
    available_isolation,
    bubblewrap_command,
    replace_root,
)

PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"


@pytest.fixture(params=list(Isolation), ids=lambda isolation: isolation.value)
def isolation(request):
    if request.param is Isolation.BUBBLEWRAP and available_isolation() is not Isolation.BUBBLEWRAP:
        pytest.skip("bubblewrap (apt install bubblewrap) is not usable here")
    return request.param


@pytest.fixture
def container(isolation, tmp_path):
    def make(script: str, *arguments: str, max_runtime_s: float = 30, grace_s: float = 10, on_line=None, **environment):
        (tmp_path / "job.py").write_text(script)
        spec = ContainerSpec(
            ("python3", "/opt/ml/job.py", *arguments), {"PATH": PATH, **environment}, tmp_path, max_runtime_s
        )
        return Container(spec, on_line or (lambda line: None), ContainerLimits(stop_grace_s=grace_s), isolation)

    return make


def test_it_sees_its_own_opt_ml_and_nothing_of_this_environment(container, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "1")
    lines = []
    script = (
        "import os, pathlib, sys\n"
        "print(sorted(set(os.environ) - {'LC_CTYPE', 'PWD'}))\n"
        "pathlib.Path(sys.argv[1]).write_text(os.environ['SM_X'])\n"
    )
    result = container(script, "/opt/ml/made", SM_X="/opt/ml/model", on_line=lines.append).run()
    assert (result.outcome, result.exit_code) == (Outcome.EXITED, 0)
    assert lines == ["['PATH', 'SM_X']"]
    assert (tmp_path / "made").read_text().endswith("/model")


def test_with_bubblewrap_the_rest_of_the_machine_is_read_only(container, isolation, tmp_path_factory):
    elsewhere = Path("/var/tmp") / f"written-by-a-job-{os.getpid()}"  # /tmp is the job's own to write
    result = container(f"open({str(elsewhere)!r}, 'w')").run()
    written = elsewhere.exists()
    elsewhere.unlink(missing_ok=True)
    assert written is (isolation is Isolation.FOLDER)
    assert ("Read-only file system" in result.log_tail[-1] if result.log_tail else False) is not written


def test_the_exit_code_and_the_last_lines_are_kept(container):
    result = container("import sys\nfor n in range(100): print('line', n)\nsys.exit(3)").run()
    assert result.exit_code == 3
    assert result.log_tail[-1] == "line 99"
    assert len(result.log_tail) == 20


def test_a_command_that_is_not_there_is_said_so(isolation, tmp_path):
    lines = []
    spec = ContainerSpec(("no-such-program",), {"PATH": PATH}, tmp_path, 10)
    result = Container(spec, lines.append, isolation=isolation).run()
    assert result.exit_code != 0
    assert "no-such-program" in lines[0]


def test_stopping_is_sigterm_first_and_the_job_may_save_itself(container, tmp_path):
    running = threading.Event()
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'w').write('saved'), sys.exit(0)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    job = container(script, "/opt/ml/saved", on_line=lambda line: running.set())
    threading.Thread(target=lambda: (running.wait(20), job.stop())).start()
    result = job.run()
    assert (result.outcome, result.exit_code) == (Outcome.STOPPED, 0)
    assert (tmp_path / "saved").read_text() == "saved"


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace_with_all_its_children(container):
    running = threading.Event()
    script = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    lines = []
    job = container(script, grace_s=0.3, on_line=lambda line: (lines.append(line), running.set()))
    threading.Thread(target=lambda: (running.wait(20), job.stop())).start()
    result = job.run()
    assert result.outcome is Outcome.STOPPED
    assert result.exit_code in {-9, 137}
    deadline = time.monotonic() + 10
    while Path(f"/proc/{lines[0]}").exists() and "Z" not in Path(f"/proc/{lines[0]}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the child outlived its job"
        time.sleep(0.02)


def test_a_second_stop_may_shorten_the_grace(container):
    running = threading.Event()
    script = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(300)"
    job = container(script, grace_s=200, on_line=lambda line: running.set())
    threading.Thread(target=lambda: (running.wait(20), job.stop(), job.stop(grace_s=0.1))).start()
    assert job.run().outcome is Outcome.STOPPED


def test_out_of_time(container):
    result = container("import time\ntime.sleep(60)", max_runtime_s=0.3).run()
    assert result.outcome is Outcome.OUT_OF_TIME
    assert result.exit_code != 0


def test_replacing_the_root_respects_names():
    root = Path("/jobs/1/ml")
    assert replace_root("--out=/opt/ml/model:/opt/ml", root) == "--out=/jobs/1/ml/model:/jobs/1/ml"
    assert replace_root("/opt/mlops /opt/ml-x /opt/ml.d", root) == "/opt/mlops /opt/ml-x /opt/ml.d"


def test_what_opt_holds_stays_visible_and_ml_is_the_jobs_own(tmp_path):
    for name in ("python", "ml"):
        (tmp_path / name).mkdir()
    command = bubblewrap_command(ContainerSpec(("true",), {}, Path("/jobs/1"), 1), 7, tmp_path)
    kept = str(tmp_path / "python")
    assert f"--ro-bind {kept} {kept} --bind /jobs/1 /opt/ml" in " ".join(command)
    assert str(tmp_path / "ml") not in command
