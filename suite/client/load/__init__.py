"""``load``: many messages, and how long each took to come back.

- `load`: one load, from its first connection to its result
- `options`: its parameters
- `traffic`: what its connections share; `streams`, `datagrams`: the connections; `opener`: opens them
- `histogram`, `results`: the measurements
- `report`, `plot`, `units`: output for people
"""
