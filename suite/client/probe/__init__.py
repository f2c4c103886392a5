"""``probe``: does every byte come back, and if not, why.

- `run`: all targets, one after another
- `streams`, `datagrams`: one target
- `compare`: sent and returned
- `report`, `stats`: what was found
"""
