"""Which peers an endpoint admits, and for how long.

- `streams`: connections
- `datagrams`: UDP
"""
