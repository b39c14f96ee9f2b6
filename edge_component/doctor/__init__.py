"""What would stop this device from serving: looking at the machine, and judging what was seen."""
