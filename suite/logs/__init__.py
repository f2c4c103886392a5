"""The log: one line for each event, as text for people or as JSON for programs.

- `lines`: from an event to a line
- `limit`: repeated events are counted instead of shown
- `log`: settings, destination, and a log file that can be reopened

docs/logs.md describes the lines, the fields and the limits.
"""
