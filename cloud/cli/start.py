"""Where the command ``edgewright`` begins: a Ctrl-C while its modules are read, for a second or so, is one too.

It imports nothing at its head, so that there is no moment in which that would be a traceback.
"""


def main() -> None:
    """Entry point; see :func:`cloud.cli.app.main`."""
    try:
        from cloud.cli.app import main as run  # noqa: PLC0415 - see the module's text

        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
