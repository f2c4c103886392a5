"""The race: the suite against stock Twisted, asyncio, uvloop, Go and C (``make bench``)."""
