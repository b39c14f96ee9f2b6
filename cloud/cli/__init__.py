"""The ``edgewright`` command: thin; each command reads its options, calls one piece of the cloud side, prints."""
