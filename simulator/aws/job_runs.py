"""One job from request to end: download, run, sync while running, upload, and the truth about how it went.

What differs between training and processing is a :class:`JobPlan`; the states are :mod:`simulator.aws.job_state`'s, the
process :mod:`simulator.aws.container`'s. Each job runs on its own thread; its state is read and changed under its lock.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from simulator.aws import job_state
from simulator.aws.container import (
    ML_ROOT,
    Container,
    ContainerExit,
    ContainerLimits,
    ContainerSpec,
    Isolation,
    Outcome,
)
from simulator.aws.job_folder import FAILURE_FILE, MESSAGE_FILE
from simulator.aws.job_log import JobLog, Metric, MetricScan
from simulator.aws.job_state import JobState
from simulator.aws.job_storage import JobDataError, JobStorage

logger = logging.getLogger(__name__)

Local = Callable[[str], Path]
"""From a path as the job sees it (``/opt/ml/…``) to where it is on this machine."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Times of every job.

    Attributes:
        container: of its process.
        sync_interval_s: between writes of the log and the checkpoints while it runs.
        shutdown_grace_s: what a running job gets when the local cloud stops.
        isolation: how it gets its ``/opt/ml``; ``None`` takes the best there is.
    """

    container: ContainerLimits = ContainerLimits()  # noqa: RUF009 - frozen
    sync_interval_s: float = 1.0
    shutdown_grace_s: float = 5.0
    isolation: Isolation | None = None


class JobPlan(Protocol):
    """What one kind of job does at each stage. Storage errors are :class:`JobDataError`."""

    @property
    def stage(self) -> str:
        """The secondary status while its command runs."""

    @property
    def log_group(self) -> str:
        """Where its log goes."""

    @property
    def folders(self) -> Sequence[str]:
        """Folders that are there when the command starts."""

    @property
    def files(self) -> Mapping[str, str]:
        """Files that are there when the command starts, with their content."""

    @property
    def command(self) -> tuple[str, ...]:
        """Program and arguments."""

    @property
    def environment(self) -> Mapping[str, str]:
        """All variables."""

    @property
    def max_runtime_s(self) -> float:
        """After which it is stopped."""

    @property
    def metric_definitions(self) -> Sequence[Mapping[str, str]]:
        """SageMaker's ``MetricDefinitions``."""

    def download(self, storage: JobStorage, local: Local) -> None:
        """Bring the inputs."""

    def sync(self, storage: JobStorage, local: Local) -> None:
        """Write back what must survive the job while it runs, and once after its end."""

    def upload(self, storage: JobStorage, local: Local, *, succeeded: bool) -> None:
        """Take the outputs."""


@dataclass(frozen=True, slots=True)
class JobWorld:
    """What jobs run in.

    Attributes:
        state_dir: where their folders are made, and removed after the end.
        clients: boto3 clients by service name.
        clock: the current time.
        limits: times.
        on_change: told of each new status, on the job's thread or the caller's.
    """

    state_dir: Path
    clients: Callable[[str], Any]
    clock: Callable[[], datetime]
    limits: JobLimits
    on_change: Callable[["Job"], None]


class Job:
    """One job. ``start`` it once; everything else may be called from any thread."""

    def __init__(self, name: str, arn: str, request: Mapping[str, Any], plan: JobPlan, world: JobWorld) -> None:
        """It exists, in its first state; nothing runs."""
        self.name = name
        self.arn = arn
        self.request = request
        self._plan = plan
        self._world = world
        self._lock = threading.Lock()
        self._state = job_state.created(world.clock())
        self._stop_asked = threading.Event()
        self._container: Container | None = None
        self._metrics = MetricScan(plan.metric_definitions)
        stream = f"{name}/algo-1-{int(self._state.created_at.timestamp())}"
        self._log = JobLog(world.clients("logs"), plan.log_group, stream)
        self._folder = world.state_dir / arn.rpartition(":")[2].replace("/", "-")
        self._thread = threading.Thread(target=self._run, name=f"job-{name}", daemon=True)

    @property
    def state(self) -> JobState:
        """Where it stands now."""
        with self._lock:
            return self._state

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The last value of each metric so far."""
        return self._metrics.final()

    def start(self) -> None:
        """Begin to work; returns at once."""
        self._world.on_change(self)
        self._thread.start()

    def stop(self, grace_s: float | None = None) -> bool:
        """Ask it to stop, by SIGTERM and after the grace by SIGKILL; ``False`` where it has ended already."""
        if self.state.has_ended:
            return False
        self._change(lambda state: job_state.stopping(state, self._world.clock()))
        self._stop_asked.set()
        if self._container is not None:
            self._container.stop(grace_s)
        return True

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._work(JobStorage(self._world.clients("s3")))
        except JobDataError as error:
            self._end("Failed", reason=f"ClientError: {error}")
        except Exception as error:
            logger.exception("job %s broke", self.name)
            self._end("Failed", reason=f"InternalServerError: {type(error).__name__}: {error}")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self, storage: JobStorage) -> None:
        self._advance("Downloading")
        self._prepare()
        self._plan.download(storage, self._local)
        result = self._execute(storage)
        if result is None:
            self._end("Stopped")
            return
        succeeded = result.outcome is not Outcome.EXITED or result.exit_code == 0
        self._advance("Uploading")
        self._plan.upload(storage, self._local, succeeded=succeeded)
        self._conclude(result, succeeded=succeeded)

    def _prepare(self) -> None:
        for folder in self._plan.folders:
            self._local(folder).mkdir(parents=True, exist_ok=True)
        for name, text in self._plan.files.items():
            self._local(name).write_text(text)

    def _execute(self, storage: JobStorage) -> ContainerExit | None:
        """Run the command; ``None`` where it was stopped before it began."""
        spec = ContainerSpec(self._plan.command, self._plan.environment, self._local(ML_ROOT), self._plan.max_runtime_s)
        limits = self._world.limits
        self._container = Container(spec, self._take_line, limits.container, limits.isolation)
        if self._stop_asked.is_set():
            return None
        self._advance(self._plan.stage, is_running=True)
        finished = threading.Event()
        syncing = threading.Thread(target=self._sync_until, args=(finished, storage), daemon=True)
        syncing.start()
        result = self._container.run()
        finished.set()
        syncing.join()
        self._log.flush()
        self._plan.sync(storage, self._local)
        return result

    def _sync_until(self, finished: threading.Event, storage: JobStorage) -> None:
        while not finished.wait(self._world.limits.sync_interval_s):
            try:
                self._log.flush()
                self._plan.sync(storage, self._local)
            except Exception:
                logger.exception("job %s: log or checkpoints could not be written; tried again", self.name)

    def _conclude(self, result: ContainerExit, *, succeeded: bool) -> None:
        message = self._read(MESSAGE_FILE)
        if result.outcome is Outcome.OUT_OF_TIME:
            self._end("Stopped", secondary="MaxRuntimeExceeded", exit_message=message)
        elif result.outcome is Outcome.STOPPED:
            self._end("Stopped", exit_message=message)
        elif succeeded:
            self._end("Completed", exit_message=message)
        else:
            reason = job_state.failure_reason(self._read(FAILURE_FILE), result.log_tail, result.exit_code)
            self._end("Failed", reason=reason, exit_message=message)

    def _read(self, name: str) -> str | None:
        path = self._local(name)
        return path.read_text(errors="replace") if path.is_file() else None

    def _local(self, name: str) -> Path:
        return self._folder / "ml" / name.removeprefix(ML_ROOT).lstrip("/")

    def _take_line(self, text: str) -> None:
        at = self._world.clock()
        self._log.line(text, at)
        self._metrics.line(text, at)

    def _advance(self, secondary: str, *, is_running: bool = False) -> None:
        self._change(lambda state: job_state.advanced(state, secondary, self._world.clock(), is_running=is_running))

    def _end(
        self, status: str, *, secondary: str | None = None, reason: str | None = None, exit_message: str | None = None
    ) -> None:
        self._change(
            lambda state: job_state.ended(
                state, status, self._world.clock(), secondary=secondary, reason=reason, exit_message=exit_message
            )
        )

    def _change(self, change: Callable[[JobState], JobState]) -> None:
        with self._lock:
            before, self._state = self._state, change(self._state)
            is_news = before.status != self._state.status
        if is_news:
            self._world.on_change(self)
