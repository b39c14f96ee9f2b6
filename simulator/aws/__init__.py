"""The local cloud: AWS's own APIs, answered by one process on this machine. Importing this package imports nothing."""
