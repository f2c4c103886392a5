"""A multi-protocol echo server suite: TCP, UDP, TLS and UNIX sockets on one Twisted reactor.

Read it from the top down; imports point down only (``make check`` holds the contract):

========= ======================================================================
doors     ``__main__``, ``cli``, ``twistd_plugin``: how the suite is started; ``pytest_plugin``
tools     ``testing``: the suite inside other programs' tests (its other half: ``testing_server``);
          ``client/``: what is pointed at a target, ``probe``, ``connect`` and ``load``
wiring    ``service``: the running suite, from configuration to open ports; ``logs``: what it says of it
protocols ``echo`` (the heart), ``endpoints``, ``tls``, ``policy``
engine    ``engine/``: this suite's ports and transports, on any POSIX reactor
ground    ``config``, ``certs``, ``limits``, ``reasons``, ``system``, ``errors``: plain Python, no Twisted
========= ======================================================================
"""

__version__ = "0.1.0"
