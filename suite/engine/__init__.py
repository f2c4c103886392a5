"""This suite's ports and transports. They need a POSIX reactor (`IReactorFDSet`), any of them.

- `interfaces`: what the engine asks of protocols and selectables, with defaults
- `reactor`: a lean epoll reactor that uses all of this
- `listeners`: a reactor's ``listen...`` methods, which open the ports below
- `clock`: monotonic time for a reactor
- `accept`: accepting in bounded turns
- `stream`: writing at once, and buffering only what the kernel refuses; `plain`: bytes as they are
- `ring`: echoing many connections at once
- `handshake`: the beginning of a TLS connection, and `handshake_records`: what a handshake may make us hold
- `tls`: TLS directly on the socket; `openssl`: pyOpenSSL with less overhead; `hello`: what a client offers
- `unix`: UNIX sockets that are private from the first instant, and not blocked by a killed process's socket
- `datagram`: UDP in bounded turns; `traffic`: how many datagrams have come and gone
- `destination`: where a datagram was sent to, and where its reply leaves from
- `binding`: what ports do about their sockets beyond Twisted's own
- `linux`: system interfaces of Linux
"""
