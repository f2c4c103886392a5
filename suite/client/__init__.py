"""Clients for any echo target, ours or another, and for a suite that runs.

- `probe`: whether every byte comes back, and if not, why
- `load`: how many messages a target can take, and how fast it answers
- `connect`: send to a target by hand or from a pipe
- `score`: what a TLS client does with each specimen of the gallery, and whether that was right
- `status`: what a running suite does; `admin`: asking its admin interface
- `dial`: reaching a target: addresses, sockets, TLS
- `histogram`: latencies, in few bytes however many there are
- `run`: a reactor that runs until one piece of work is done
- `locust_user`: load from many machines, with Locust
"""
