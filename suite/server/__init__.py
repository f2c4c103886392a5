"""The running suite, from a configuration to open ports and back.

- `plan`: a configuration, read and checked in full
- `endpoint`: one endpoint that is open; `answering`: what it has to answer with
- `ports`: what is asked of them, whoever has made them
- `surroundings`: what all endpoints share
- `switching`: from one plan to another; `service`: all of it as a Twisted service
- `operations`: what a running suite has beside its endpoints
- `reload`: SIGHUP, and files that have changed; `watch` notices them
- `process`: reactor, signals, exit code
- `pauses`: what the interpreter would make echoes wait for
- `counts`: what an endpoint has counted; `tally`: what has been counted under a name
- `status`: what a signal writes to the log
- `threads`: work beside the reactor
- `announce`: what it prints
- `token`: what allows changes over TCP
- `workers`: the same from several processes
"""
