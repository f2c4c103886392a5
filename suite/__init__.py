"""A multi-protocol echo server suite: TCP, UDP, TLS and UNIX sockets on one Twisted reactor, or several.

A folder for each question; imports point down only (``make check`` holds the contract):

============= ==================================================================================
doors         ``__main__``, ``cli``: the command line; ``twistd_plugin``, ``dropin``; beside this
              package, ``pytest_echo_suite``: the pytest plugin
``commands``  one file for each subcommand: its parser, and what it runs
``testing``   the suite inside other programs' tests
``client``    tools to point at a target: ``dial``, ``probe``, ``load``, ``connect``; what a
              suite does that runs: ``status``
``admin``     a running suite shows what it does, and is changed: page, API, metrics, health, control
``server``    the running suite: from a configuration to open ports, and back; ``server.workers``:
              in several processes
``gallery``   bad TLS: specimens with one defect each, how they are minted and served
``endpoints`` where an endpoint listens: descriptions, sockets, TLS, PROXY headers
``answers``   a table of what else an endpoint can answer
``echo``      the heart: what an endpoint answers
``faults``    how it misbehaves on purpose: which connection gets what, and how that is done
``guard``     whom an endpoint admits, and for how long
``engine``    our ports and transports, on any POSIX reactor; ``engine.linux``: what only Linux has
``config``    the configuration file, and the values it holds
ground        ``certs``, ``identities``, ``system``, ``cores``, ``reasons``, ``errors``, ``files``,
              ``output``, ``signals``, ``text``; ``client_hello``, ``fingerprints``, ``tls_names``: what a TLS
              client offers; Twisted's ``logs``
============= ==================================================================================
"""

__version__ = "0.1.0"
