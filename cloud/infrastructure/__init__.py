"""What has to stand before anything flows: queues, rules, role, key, and the retraining state machine."""
