"""Tools to point at a target, ours or anyone's.

- `probe`: does every byte come back, and if not, why
- `load`: how much it can take, and how fast it answers
- `connect`: talk to it
- `dial`: getting there: targets, addresses, sockets, TLS
- `run`: a reactor that runs as long as one piece of work
- `locust_user`: load from many machines
"""
