"""The local cloud, the local nucleus and what runs on them. Importing this package imports nothing else."""
