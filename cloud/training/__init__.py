"""From ``model.toml`` to a finished SageMaker training job."""
