"""System interfaces that Python does not offer; each module tells whether the system has its interface.

- `uring`: ``io_uring``
- `mmsg`: ``recvmmsg``, ``sendmmsg``
- `timerfd`: timers accurate to microseconds
- `malloc`: ``malloc_trim``
- `reuseport`: which socket of a group gets a datagram
- `segments`: ``tcpi_data_segs_in``
- `queues`: ``SIOCOUTQ``, ``TCP_NOTSENT_LOWAT``: what the kernel holds for a peer that does not read
"""
