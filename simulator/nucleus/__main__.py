"""``python -m simulator.nucleus``: one core device, registered already, as this process."""

import argparse
import logging
import sys
from pathlib import Path

from simulator.errors import SimulatorError
from simulator.mqtt import BrokerAddress
from simulator.nucleus.process import ProcessOptions, run_device
from simulator.nucleus.profile import PROFILES


def main() -> int:
    """Read the arguments and run; the exit code is 1 where the device could not start."""
    parser = argparse.ArgumentParser(prog="python -m simulator.nucleus", description=__doc__)
    parser.add_argument("--thing-name", required=True)
    parser.add_argument("--root", type=Path, required=True, help="the device's folder; short, sockets lie below it")
    parser.add_argument("--broker", type=Path, required=True, help="the broker's address file")
    parser.add_argument("--endpoint-url", default="", help="the cloud (default: AWS_ENDPOINT_URL)")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="lite")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    options = ProcessOptions(
        arguments.thing_name,
        arguments.root,
        BrokerAddress.read(arguments.broker),
        provisions=False,
        endpoint_url=arguments.endpoint_url,
        profile=PROFILES[arguments.profile],
    )
    try:
        run_device(options)
    except SimulatorError as error:
        sys.stderr.write(f"error: {error}\nremedy: {error.remedy}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
