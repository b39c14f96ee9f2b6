"""A Greengrass nucleus on one machine: it runs real recipes and the real, unmodified component, as separate processes."""
