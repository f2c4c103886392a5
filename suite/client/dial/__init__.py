"""Reaching a target.

- `target`: parses TARGET arguments
- `dialer`: connects to a target
- `addresses`, `sockets`, `datagrams`, `tls`: the steps of a connection
- `failures`: one word for each kind of failure
- `waiting`: timeouts
"""
