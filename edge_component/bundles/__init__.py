"""What is believed about a handed-over bundle: unpacked, verified, and kept as the runtime's own copy."""
