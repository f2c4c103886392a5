"""Getting to a target.

- `target`: what a TARGET is
- `dialer`: connects to one
- `addresses`, `sockets`, `datagrams`, `tls`: the steps on the way
- `failures`: one word for each thing that can go wrong
- `waiting`: deadlines
"""
