"""One Greengrass core device: nucleus, components and state below one root folder.

The failure it exists for: fleets tested with devices that never lose power, never restart and never forget. A device
here can be stopped in order, restarted as a nucleus, cut off from power, and started again from its folder.

It knows neither MQTT nor HTTP (``ports.py``). Concurrency: every method belongs to one event loop; many devices may
share a loop (see ``host.py``), or each has a process (``python -m simulator.nucleus``).
"""

import asyncio
import contextlib
import json
import logging
import os
import platform as host_platform
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.nucleus import systemd_notify
from simulator.nucleus.deployment import DaemonKilledError, Verdict, Workshop, carry_out
from simulator.nucleus.document import parse_deployment
from simulator.nucleus.errors import CloudOfflineError, DeploymentFailedError, RecipeError, RootPathError
from simulator.nucleus.fleet_status import Speaker, deployment_information, status_message, status_topic
from simulator.nucleus.interpolation import Places
from simulator.nucleus.ipc_operations import Operations
from simulator.nucleus.ipc_server import IpcServer
from simulator.nucleus.jobs import Jobs
from simulator.nucleus.ports import CloudMessages, ComponentSource, Platform
from simulator.nucleus.profile import LITE, Profile
from simulator.nucleus.recipe import Recipe, Step, parse_recipe
from simulator.nucleus.services import ConfigurationStore, Services, SpoolingMessages, Tokens
from simulator.nucleus.shadow_deployments import ShadowDeployments
from simulator.nucleus.state import StateFile
from simulator.nucleus.steps import Environment, Steps
from simulator.nucleus.supervisor import Supervisor
from simulator.nucleus.surprises import Surprises
from simulator.nucleus.unit import base_python_folder, end_survivors

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "aarch64", "armv7l": "arm"}
"""The machine's word to Greengrass's."""

SOCKET_PATH_BYTES_MAX = 107
LONGEST_SOCKET = "work/com.edgewright.Runtime/admin.sock"
"""The longest socket that anything of ours makes below a root folder."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """One device.

    Attributes:
        thing_name: who it is.
        root: its folder; made if it does not exist. Short enough for the Unix sockets below it.
        profile: which nucleus.
        region: for components' environment.
        environment: added to every component's environment (``PATH`` and the rest of this process's are not passed on).
        now_ms: wall clock.
    """

    thing_name: str
    root: Path
    profile: Profile = LITE
    region: str = "us-east-1"
    environment: Mapping[str, str] = field(default_factory=dict)
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000


class CoreDevice:
    """Off when made; :meth:`start` and :meth:`stop` may be repeated."""

    def __init__(self, options: DeviceOptions, cloud: CloudMessages, source: ComponentSource) -> None:
        """Nothing is read, written or contacted.

        Raises:
            RootPathError: a socket below the root could not be bound.
        """
        longest = len(os.fsencode(options.root / LONGEST_SOCKET))
        if longest > SOCKET_PATH_BYTES_MAX:
            raise RootPathError(
                f"{options.root} is {longest - SOCKET_PATH_BYTES_MAX} bytes too long for the Unix sockets below it",
                "Choose a shorter root folder, or a short symbolic link to it.",
            )
        profile = options.profile
        self.options = options
        self.places = Places(options.root.absolute())
        self.platform = Platform(
            "linux", ARCHITECTURES.get(host_platform.machine(), "unknown"), profile.runtime, host_platform.machine()
        )
        self.surprises = Surprises()
        self.verdicts: list[Verdict] = []
        spool = profile.spools_offline_bytes
        self._cloud: CloudMessages = SpoolingMessages(cloud, spool) if spool else cloud
        self._source = source
        self._state_file = StateFile(options.root / "config" / "state.json")
        self._tasks: set[asyncio.Task[None]] = set()
        self._daemon: asyncio.Task[None] | None = None
        self._jobs: Jobs | None = None
        self._shadow: ShadowDeployments | None = None
        self._deploying = asyncio.Lock()  # one at a time, whichever road it came by
        self._launched = False
        self._broken: frozenset[str] = frozenset()
        self.running = False

    async def start(self) -> None:
        """Boot, or start the nucleus again: components from disk, IPC, the cloud connection, deployments.

        Raises:
            StateError: the state file is damaged; it is left as it is.
        """
        self.state = self._state_file.load()
        (self.places.root / "run").mkdir(parents=True, exist_ok=True)
        if survivors := end_survivors(self.places.root / "run"):
            logger.warning("%s: ended %d processes of an earlier life", self.options.thing_name, survivors)
        self._install_systemd_notify()
        self._configurations = ConfigurationStore(self.state.configurations, self._save)
        self._make_nucleus()
        await self._ipc.start()
        await self._put_installed()
        self.state.clean_stop = False
        self._save()
        self.running = True
        self._spawn(self.supervisor.start_all())
        self._launched = False
        self._daemon = asyncio.get_running_loop().create_task(self._run_daemon())
        await self._cloud.start(self._connection_changed)

    async def stop(self) -> None:
        """Stop in order: no more jobs, components with their grace, then the rest."""
        await self._leave()
        await self.supervisor.stop_all()
        await self._close(clean=True)

    async def power_off(self) -> None:
        """Cut the power: every process dies at once, nothing is written or said any more."""
        await self._leave()
        await self.supervisor.power_off()
        await self._close(clean=False)

    async def restart_nucleus(self) -> None:
        """Stop and start, as ``systemctl restart`` does."""
        await self.stop()
        await self.start()

    async def kill_deployment_daemon(self) -> None:
        """Kill it, in the middle of whatever it does; systemd starts it again after a moment."""
        await _cancelled(self._daemon)
        self._daemon = asyncio.get_running_loop().create_task(self._run_daemon(self.options.profile.daemon_restart_s))

    async def stop_ipc(self) -> None:
        """End the IPC daemon (on Lite a process of its own): connections and socket go, everything else stays."""
        await self._ipc.close()

    @property
    def serves_ipc(self) -> bool:
        """Whether components can connect."""
        return self._ipc.is_open

    async def start_ipc(self) -> None:
        """Have it back; on Lite its memory, and with it every token, is another one."""
        if self.options.profile.forgets_tokens:
            self._tokens.forget()
        await self._ipc.start()

    def kill_component(self, name: str, number: int = signal.SIGKILL) -> bool:
        """Send a signal to a component's processes; ``False`` if it has none."""
        return self.supervisor.kill(name, number)

    def status(self) -> Mapping[str, Any]:
        """What is installed and what runs, for people and tests."""
        components = {
            name: {
                "version": component.version,
                "unit_version": component.unit_version,
                "state": self.supervisor.greengrass_state(name) if self.running else "",
                "process_id": self.supervisor.process_id(name) if self.running else None,
            }
            for name, component in sorted(self.state.installed.items())
        }
        last = self.verdicts[-1] if self.verdicts else None
        return {
            "thing_name": self.options.thing_name,
            "profile": self.options.profile.name,
            "running": self.running,
            "connected": self.running and self._cloud.connected,
            "components": components,
            "last_deployment": None
            if last is None
            else {"id": last.deployment_id, "status": last.job_status, "code": last.code, "message": last.message},
        }

    def _make_nucleus(self) -> None:
        profile, places = self.options.profile, self.places
        tokens = self._tokens = Tokens(profile.components_max)
        socket_path = places.root / profile.socket_name
        base = {
            "PATH": f"{base_python_folder()}:{places.root / 'bin'}:{SYSTEM_PATH}",
            "HOME": str(places.root),
            "LANG": "C.UTF-8",
            "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(socket_path),
            "AWS_IOT_THING_NAME": self.options.thing_name,
            "AWS_REGION": self.options.region,
            "AWS_DEFAULT_REGION": self.options.region,
            "GG_ROOT_CA_PATH": str(places.root / "rootCA.pem"),
            "GGC_VERSION": profile.version,
            **self.options.environment,
        }
        environment = Environment(base, tokens.token_of, self._version_of)
        steps = Steps(profile, places, self.options.thing_name, self._configurations, environment, self.surprises)
        self.supervisor = Supervisor(profile, places, steps, self._component_changed)
        services = Services(self._configurations, self._cloud, self.supervisor, tokens=tokens)
        self._ipc = IpcServer(
            socket_path,
            profile,
            Operations(profile, services),
            tokens,
            self.supervisor.component_of_process,
        )
        self._workshop = Workshop(
            profile, places, self.platform, self._source, self.supervisor, steps,
            self._configurations, self.state, self._save, self.surprises,
        )  # fmt: skip

    def _version_of(self, name: str) -> str | None:
        installed = self.state.installed.get(name)
        return None if installed is None else installed.version

    def _install_systemd_notify(self) -> None:
        release = "253" if self.options.profile.knows_notify_stopping else "252"
        path = self.places.root / "bin" / "systemd-notify"
        path.parent.mkdir(exist_ok=True)
        program = f'#!/bin/sh\nexec {base_python_folder()}/python3 {systemd_notify.__file__} {release} "$@"\n'
        path.write_text(program)
        path.chmod(0o755)

    async def _put_installed(self) -> None:
        """Make units of what is installed. After a power cut systemd has read the newest unit files (a boot)."""
        for name, component in self.state.installed.items():
            if component.unit_version is None:
                continue
            if not self.state.clean_stop:
                component.unit_version = component.version
            await self.supervisor.put(self._recipe_of(name, component.unit_version))

    def _recipe_of(self, name: str, version: str) -> Recipe:
        try:
            data = self.places.recipe(name, version).read_bytes()
            return parse_recipe(data, self.options.profile, self.platform)
        except (OSError, RecipeError) as error:
            logger.warning("%s %s cannot run: %s", name, version, error)
            failing = Step("echo 'nucleus: the recipe is gone' >&2; exit 1")
            return Recipe(name, version, (), {}, {"run": failing}, {}, ())

    async def _serve_deployments(self) -> None:
        """Until one of the roads ends, by its death."""
        options = self.options
        self._jobs = Jobs(self._cloud, options.thing_name, options.profile, self._deploy)
        self._shadow = ShadowDeployments(self._cloud, options.thing_name, options.profile, self._deploy)
        roads = [self._jobs.serve(), *([self._shadow.serve()] if options.profile.hears_shadow else [])]
        tasks = [asyncio.get_running_loop().create_task(road) for road in roads]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await asyncio.gather(*(_cancelled(task) for task in tasks), return_exceptions=True)

    async def _run_daemon(self, delay_s: float = 0.0) -> None:
        """The deployment daemon's lives."""
        while True:
            await asyncio.sleep(delay_s)
            try:
                await self._serve_deployments()
            except DaemonKilledError as death:
                logger.warning("%s: the deployment daemon died after %s", self.options.thing_name, death)
            except Exception:  # a defect of the simulator; systemd would start the daemon again, too
                logger.exception("%s: the deployment daemon died of a defect", self.options.thing_name)
            delay_s = self.options.profile.daemon_restart_s

    async def _deploy(self, document: object) -> str:
        try:
            deployment = parse_deployment(document, self.options.now_ms())
        except DeploymentFailedError as error:
            self.verdicts.append(Verdict("", False, error.code, f"{error} {error.remedy}".rstrip()))
            return "FAILED"
        async with self._deploying:
            verdict = await carry_out(deployment, self._workshop)
        self.verdicts.append(verdict)
        await self._say(deployment.trigger, deployment_information(deployment, verdict))
        return verdict.job_status

    def _connection_changed(self, connected: bool) -> None:  # noqa: FBT001 - a callback
        logger.info("%s: %s", self.options.thing_name, "connected" if connected else "disconnected")
        if connected:
            self._spawn(self._connected())
        elif self._jobs is not None:
            self._jobs.connection_lost()

    async def _connected(self) -> None:
        trigger = "RECONNECT" if self._launched else "NUCLEUS_LAUNCH"
        self._launched = True
        if isinstance(self._cloud, SpoolingMessages):
            await self._cloud.flush()
        await self._say(trigger)
        if self._jobs is not None:
            self._jobs.ask()
        if self._shadow is not None:
            self._shadow.ask()

    def _component_changed(self) -> None:
        broken = frozenset(view.name for view in self.supervisor.views() if view.state == "BROKEN")
        if broken != self._broken and self.running:
            self._broken = broken
            self._spawn(self._say("COMPONENT_STATUS_CHANGE"))

    async def _say(self, trigger: str, deployment: Mapping[str, Any] | None = None) -> None:
        """Send a fleet status; while offline it is lost, as Lite's is, and so is one that outgrows its buffer."""
        self.state.status_sequence += 1
        self._save()
        message = status_message(
            Speaker(self.options.thing_name, self.options.profile, self.platform),
            self.state,
            {name: self.supervisor.greengrass_state(name) for name in self.state.installed},
            trigger=trigger,
            now_ms=self.options.now_ms(),
            deployment=deployment,
        )
        payload = json.dumps(message, separators=(",", ":")).encode()
        limit = self.options.profile.status_bytes_max
        if limit is not None and len(payload) > limit:
            logger.warning(
                "%s: a fleet status of %d bytes is not sent; %d fit", self.options.thing_name, len(payload), limit
            )
            return
        with contextlib.suppress(CloudOfflineError):
            await self._cloud.publish(status_topic(self.options.thing_name), payload, 1)

    def _save(self) -> None:
        self.state.configurations = dict(self._configurations.all())
        self._state_file.save(self.state)

    def _spawn(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _leave(self) -> None:
        self.running = False
        await _cancelled(self._daemon)
        await self._cloud.stop()
        await asyncio.gather(*(_cancelled(task) for task in list(self._tasks)))

    async def _close(self, *, clean: bool) -> None:
        await self._ipc.close()
        self.state.clean_stop = clean
        if clean:
            self._save()


async def _cancelled(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
