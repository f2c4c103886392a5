"""How does an endpoint misbehave? On purpose, as declared, and the same way every time.

- `draw`: the generator
- `decide`: which connection gets which faults; `packets`: which datagram suffers what
- `pipe`, `held`, `streams`: what happens to the bytes of a connection, held back between transport and answer
- `line`, `datagrams`: the same for datagrams
- `records`, `tls`: handshakes and records
- `requested`: what clients ask for; `explain`, `replay`: telling it beforehand, and again

`draw`, `decide` and `packets` are pure, without Twisted.
"""
