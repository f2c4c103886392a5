"""``load``: many messages, and how long each took to come back.

- `load`: one load, from its first connection to its result; `options`: its parameters
- `opener`: finds the addresses of the target and opens the connections
- `traffic`: what the connections share; `streams`, `datagrams`: the connections
- `measurement`: sends and counts; `schedule`: when messages are due
- `stats`: what is counted at an address; `series`: figures over time, and the log
- `workers`: a load from several processes; `figures`: what each of them has measured, merged
- `results`: the result; `document`: as JSON; `report`, `plot`, `units`: for people
"""
