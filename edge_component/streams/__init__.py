"""Pipelines from a source through a model into a sink, by configuration alone."""
