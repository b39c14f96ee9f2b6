"""Sessions, the router between them, and the first, suspicious load of a new model in a child process."""
