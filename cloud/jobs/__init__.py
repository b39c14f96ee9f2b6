"""SageMaker jobs as values: what one is, how one is followed, and a fake that keeps them in memory."""
