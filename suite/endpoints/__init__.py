"""Where an endpoint listens.

- `descriptions`: checked endpoint descriptions
- `parser`: parses their text
- `listener`: opens their sockets
- `tls`: the OpenSSL context of an ``ssl:`` endpoint
- `proxy_protocol`: PROXY headers
"""
