"""What an operator sees of one device without the cloud: metrics, structured logs, slow requests."""
