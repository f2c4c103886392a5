"""``connect``: talk to a target.

- `session`: one session
- `prompt`: at a terminal; `pipe`: in a pipe, over `standard` input and output
- `channel`: sending and receiving, over streams and datagrams
- `hexdump`: bytes as hexadecimal digits
"""
