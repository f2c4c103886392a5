"""``connect``: talk to a target.

- `session`: one session
- `prompt`: at a terminal; `pipe`: in a pipe
- `channel`: bytes there and back, over streams and datagrams
- `hexdump`: bytes as digits
"""
