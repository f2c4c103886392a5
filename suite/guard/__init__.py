"""Whom an endpoint admits, and for how long.

- `streams`: connections
- `datagrams`: UDP
"""
