"""A multi-protocol echo server suite: TCP, UDP, TLS and UNIX sockets on one Twisted reactor.

Read it from the top down; imports point down only (``make check`` holds the contract):

========= ======================================================================
doors     ``__main__``, ``cli``, ``twistd_plugin``: how the suite is started
tools     ``client/``: what is pointed at a target: ``probe``, ``connect``
wiring    ``service``: the running suite, from configuration to open ports
protocols ``echo`` (the heart), ``endpoints``, ``tls``, ``policy``
engine    ``engine/``: this suite's ports and transports, on any POSIX reactor
ground    ``config``, ``certs``, ``errors``: plain Python, no Twisted
========= ======================================================================
"""

__version__ = "0.1.0"
