"""What does a TLS client do with each specimen of a gallery of bad TLS? A score.

- `score`: runs a client against all specimens; `running`: one run of it, as a process
- `manifest`: the gallery's description of itself; `own`: a gallery of our own, for the time of a score
- `clients`: clients that are known by name; `programs`: those of them that we have written
- `offer`: what the client offers, without which some defects cannot be seen
- `verdicts`: what the client did, and whether that was right
- `report`, `document`, `junit`: the results for people, for programs and for CI
"""
