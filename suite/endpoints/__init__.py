"""Where an endpoint listens.

- `descriptions`: an endpoint description, checked
- `parser`: from its text to that
- `listener`: opening it
- `tls`: the OpenSSL context of an ``ssl:`` endpoint
- `proxy_protocol`: PROXY headers
"""
