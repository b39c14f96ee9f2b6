"""The cloud side: train, compile, publish, deploy, watch. Importing this package imports nothing else."""
