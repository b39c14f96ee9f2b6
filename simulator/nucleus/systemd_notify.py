"""What ``systemd-notify`` does, for machines whose systemd is not the device's. Run as a program of that name.

Standard library only: it runs under the base interpreter, outside any virtual environment. Greengrass Lite appends
``systemd-notify --ready`` and ``--stopping`` to startup scripts; systemd 252 does not know the latter and fails.
"""

import os
import socket
import sys

MESSAGES = {"--ready": "READY=1", "--stopping": "STOPPING=1", "--reloading": "RELOADING=1"}


def main(arguments: "list[str]") -> int:
    """Send one message; the first argument says whether ``--stopping`` is known (``253``) or not (``252``)."""
    release, options = arguments[0], arguments[1:]
    if "--stopping" in options and int(release) < 253:
        print("systemd-notify: unrecognized option '--stopping'", file=sys.stderr)
        return 1
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return 1
    message = "\n".join(MESSAGES[option] for option in options if option in MESSAGES)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
