"""How does an endpoint misbehave? On purpose, as declared, and the same way every time.

`draw` is the generator, `decide` says which connection gets which faults; both are pure, without Twisted.
"""
