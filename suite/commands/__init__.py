"""The subcommands, a file each: its parser, and what it runs.

- `serve` (without a command), `check`, `certs`
- `probe`, `connect`, `load`, `gallery`
- `status`, `health`, `faults`: asking a running suite
- `options`, `admin_options`: what several of them take; `console`: how they print
"""
