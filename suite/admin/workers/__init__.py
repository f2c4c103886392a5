"""One admin interface for all workers: the supervisor has it, and asks them.

In the supervisor:

- `companions`: lets it have a control socket and an admin interface, and workers answer
- `site`: what is known of them; who may ask is as everywhere
- `answers`: what answers where a single process would answer for itself alone; `routes`: at which paths
- `merging`: one document of several
- `told`: what workers have counted, which outlives them; `metrics`: what becomes of it in a scrape

In a worker:

- `inside`: the same interface without sockets: answers, and tells what has been counted
- `forward`: tells of events
"""
