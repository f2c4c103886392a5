"""Reaching a target.

- `target`: parses TARGET arguments
- `dialer`: connects to a target
- `addresses`, `happy_eyeballs`, `sockets`: from a name to a connected socket
- `proxy_header`, `starttls`, `conversation`: what is said before all else
- `tls`, `trust`, `certificates`, `alerts`: the handshake, and which certificates are trusted
- `datagrams`: UDP
- `failures`: one word for each kind of failure
- `waiting`: timeouts
"""
