"""A client of a running suite's admin interface.

- `address`: where it is: what the user says, or the configuration
- `interface`: asking it, over a UNIX socket or TCP
- `faults`: changing faults there, as over the control socket
- `unreachable`: why nothing answers, and the way out
"""
