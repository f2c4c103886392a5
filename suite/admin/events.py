"""What happens to a suite, for those who watch it: the events of its log, at every level."""

from __future__ import annotations


class Events:
    """The last events."""
