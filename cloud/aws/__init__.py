"""One thin adapter for each AWS service; botocore's errors are wrapped here, once."""
