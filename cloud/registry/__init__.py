"""SageMaker Model Registry: what was made, from what, and who approved it."""
