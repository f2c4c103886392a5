"""Seeing what a running suite does, and changing it, from outside: off unless the configuration has it.

The control socket:

- `control`: the socket, and the table of requests that it takes
- `conversation`: one client of it: lines in, lines out, everything bounded

The admin interface, over HTTP:

- `admin`: its sockets, and when it answers there
- `site`: who may ask for what, and which handler has the answer
- `access`: the rules about that
- `http`: requests and connections, everything bounded; `budget`: at what part of the reactor's time
- `exchange`: what a request is to handlers, and what they answer with
- `route`, `routes`: one path, and all of them
- `api`: JSON for programs; `page`: the same for people, in a browser
- `health`: plain text for probes
- `metrics`: what has been counted, for Prometheus
- `events`: what has happened
- `workers`: one interface for all of them, where there are several
- `lag`, `usage`: how late the reactor is, and what the process uses

What both of them need:

- `companions`: lets a suite have them
- `faults`: what is in force at each endpoint, and changing that
- `objects`: reading the JSON of a request
"""
