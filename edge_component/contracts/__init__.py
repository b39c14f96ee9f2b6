"""Every message and file that crosses between device and cloud. Standard library only; see README.md beside this."""
