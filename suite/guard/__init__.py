"""Which peers an endpoint admits, and for how long.

- `streams`: the connections of an endpoint, from accept to their end
- `admission`: whom it admits
- `shared`: what the workers of a suite count together
- `sweep`: the phases of a connection, and the time that each may take
- `keepalive`: noticing that a peer has vanished
- `handshakes`: how TLS handshakes ended
- `datagrams`: UDP
- `steering`: which worker gets a datagram
"""
