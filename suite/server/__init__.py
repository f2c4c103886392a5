"""The running suite, from a configuration to open ports and back.

- `plan`: a configuration, read and checked in full
- `endpoint`: one endpoint that is open
- `service`: all of them, as a Twisted service
- `reload`: SIGHUP, and files that have changed; `watch` notices them
- `process`: reactor, signals, exit code
- `pauses`: what the interpreter would make echoes wait for
- `counts`: what an endpoint has counted; `tally`: what has been counted under a name
- `status`: what a signal writes to the log
- `workers`: several processes that serve one configuration
- `threads`: work beside the reactor
- `announce`: what it prints
- `token`: what allows changes over TCP
- `workers`: the same from several processes
"""
