"""One core device as this process: started, announced with one line, stopped by SIGTERM or Ctrl-C.

Concurrency: owns the process's event loop and its signal handlers.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.claim import claimed
from simulator.mqtt import BrokerAddress, credentials_for
from simulator.nucleus.control import ControlServer
from simulator.nucleus.core_device import CoreDevice, DeviceOptions
from simulator.nucleus.data_plane import DataPlane
from simulator.nucleus.errors import DeviceRunningError, ProvisioningError
from simulator.nucleus.mqtt_messages import MqttMessages
from simulator.nucleus.profile import LITE, Profile
from simulator.nucleus.provision import provision


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """One device and where its cloud is.

    Attributes:
        groups: thing groups to join while provisioning.
        provisions: whether to register the device first; otherwise it is registered already.
        endpoint_url: the cloud; empty takes ``AWS_ENDPOINT_URL``.
    """

    thing_name: str
    root: Path
    broker: BrokerAddress
    groups: Sequence[str] = ()
    provisions: bool = True
    endpoint_url: str = ""
    profile: Profile = LITE
    region: str = "us-east-1"


def make_device(options: ProcessOptions) -> CoreDevice:
    """A device over the real ports; registered, if asked for, but not started.

    Raises:
        ProvisioningError: no endpoint, or registering failed.
    """
    url = options.endpoint_url or os.environ.get("AWS_ENDPOINT_URL", "")
    if not url:
        raise ProvisioningError("no cloud endpoint", "Set AWS_ENDPOINT_URL to the local cloud's address.")
    if options.provisions:
        credentials = provision(options.thing_name, options.groups, options.broker, options.root, options.region)
    else:
        credentials = credentials_for(options.broker, options.thing_name)
    cloud = MqttMessages(options.broker, options.thing_name, credentials, options.profile.packet_bytes_max)
    source = DataPlane(url, options.thing_name, options.region)
    device_options = DeviceOptions(options.thing_name, options.root, options.profile, options.region)
    return CoreDevice(device_options, cloud, source)


def run_device(options: ProcessOptions) -> None:
    """Run until SIGTERM or SIGINT; prints one JSON line when the device is up.

    Raises:
        DeviceRunningError: another process runs a device in this folder.
        SimulatorError: it could not be provisioned or started.
    """
    root = options.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    refusal = DeviceRunningError(
        f"a device is running in {root}", "Stop it with Ctrl-C, or give this one another --root."
    )
    with claimed(root / "device.lock", refusal):
        asyncio.run(_run(make_device(options)))


async def _run(device: CoreDevice) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await device.start()
    control = ControlServer(device)
    await control.start()
    line = {"thing_name": device.options.thing_name, "root": str(device.options.root), "process_id": os.getpid()}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    try:
        await stop.wait()
    finally:
        await control.close()
        if device.running:
            await device.stop()
