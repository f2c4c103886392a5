"""``load``: many messages, and how long each took to come back.

- `load`: one load, from its first connection to its result
- `options`: what it is to be
- `traffic`: what its connections share; `streams`, `datagrams`: the connections; `opener`: opens them
- `histogram`, `results`: what was measured
- `report`, `plot`, `units`: for people
"""
