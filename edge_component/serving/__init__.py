"""The runtime's doors: the fast path for predictions, the admin socket for changes of what is served."""
