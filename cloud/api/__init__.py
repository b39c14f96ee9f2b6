"""The fleet status API: what is known of devices, models, deployments, drift, read over HTTP; and one page for people."""
