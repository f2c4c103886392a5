"""This suite's ports and transports. They need a POSIX reactor (`IReactorFDSet`), any of them.

- `listeners`: the ``listen…`` calls of a reactor, answered with the ports below
- `stream`: write at once, buffer only what the kernel refuses
- `tls`: TLS straight on the socket
- `openssl`: pyOpenSSL without detours
- `memory`: giving it back
- `unix`: UNIX sockets that are private from the first instant and survive ``kill -9``
- `datagram`: UDP in bounded turns
- `mmsg`: many datagrams in one call
- `ring`: echoing many connections at once
- `uring`: ``io_uring``
- `reactor`: a lean epoll reactor around all this
- `quiet`: who needs no logging context
- `careful`: what ports of both kinds share
"""
