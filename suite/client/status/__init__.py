"""What a running suite does, for a terminal: ``python -m suite status``.

- `snapshot`: what the admin interface says at one moment, and the rates between two
- `overview`: the whole suite; `detail`: one endpoint, connections, refusals
- `words`: numbers, times and counts, for people
"""
