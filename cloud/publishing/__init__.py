"""From a compilation folder to a signed, immutable component version, and from that to a deployment."""
