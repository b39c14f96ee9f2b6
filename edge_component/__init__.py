"""What runs on the device. Importing this package imports nothing else: see ARCHITECTURE.md for its floors."""
