"""Changing a running suite from outside: over a socket that is off unless the configuration has one.

- `control`: the control socket, and the table of requests that it takes
- `conversation`: one client of it: lines in, lines out, everything bounded
- `faults`: what is in force at each endpoint, and changing that
"""
