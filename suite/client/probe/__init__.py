"""``probe``: does every byte come back, and if not, why.

- `settings`: what to send, how often, and how to connect
- `run`: probes all targets, one after another
- `streams`, `datagrams`: probe one target
- `compare`: finds the first difference between sent and returned bytes
- `report`, `stats`: the findings
- `output`, `prometheus`: how they are told
- `fetch`: asks for the other side's report on a connection; `shown`: shows it
"""
