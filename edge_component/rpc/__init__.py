"""gRPC's server side on sockets of our own: HTTP/2 as far as gRPC uses it, with a call answered where it was read. See README.md."""
