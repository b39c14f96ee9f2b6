"""What the device tells the cloud: summarised off the hot path, kept durably, sent when there is a way."""
