"""This suite's ports and transports. They need a POSIX reactor (`IReactorFDSet`), any of them.

- `interfaces`: what the engine asks of protocols and selectables, with defaults
- `reactor`: a lean epoll reactor around all this
- `listeners`: the ``listen...`` calls of a reactor, answered with the ports below
- `accept`: accepting in bounded turns
- `stream`: write at once, buffer only what the kernel refuses
- `ring`: echoing many connections at once
- `tls`: TLS straight on the socket; `openssl`: pyOpenSSL without detours
- `unix`: UNIX sockets that are private from the first instant and survive ``kill -9``
- `datagram`: UDP in bounded turns
- `binding`: a socket that cannot be bound is closed at once
- `linux`: what only Linux has
"""
