"""The subcommands, a file each: its parser, and what it runs.

- `serve` (without a command), `check`, `certs`
- `probe`, `connect`, `load`
- `gallery`, and its `gallery_score`
- `status`, `health`: asking a running suite
- `faults`, and its `fault_control`: showing and changing those of a running suite
- `options`, `reach`, `admin_options`: what several of them take; `console`: how they print
"""
