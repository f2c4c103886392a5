"""System interfaces that Python has no names for; where one is missing, its module says so.

- `uring`: ``io_uring``
- `mmsg`: ``recvmmsg``, ``sendmmsg``
- `timerfd`: timers exact to microseconds
- `malloc`: ``malloc_trim``
"""
