"""Several processes that serve one configuration, so that more than one core is used.

- `supervisor`: the process that was started. It opens every socket, and serves nothing itself
- `crew`: its workers: starting them, replacing those that die, telling them what to do
- `asking`: all of them at once, and not for ever
- `member`: one of them, as the supervisor sees it
- `trouble`: what the log says of those that end
- `held`: what an endpoint is in the supervisor: its sockets, and what holds for it
- `worker`: one worker: an ordinary suite on the sockets that it is given
- `sockets`: sockets that several processes serve, on either side
- `link`: what supervisor and worker say to each other
- `forking`: from the supervisor's process to a worker's
"""
