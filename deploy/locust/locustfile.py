"""Echoes from Locust: what `deploy/locust/Containerfile` and the pods of `deploy/kubernetes/load` run.

Each user is one connection with one message in flight, and compares every byte; docs/load.md has more
settings. Two come from environment variables: ``ECHO_SIZE``, bytes of a message (default: 1024), and
``ECHO_CA``, a PEM file with roots to trust besides the system's.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from locust import events
from locust.runners import WorkerRunner

from suite.client.locust_user import EchoUser

_size = os.environ.get("ECHO_SIZE", "1024")
if not (_size.isascii() and _size.isdigit() and int(_size)):
    raise SystemExit(f"ECHO_SIZE: {_size!r} is not a size; expected a number of bytes, at least 1")


class Messages(EchoUser):
    """The user that Locust starts as often as ``--users`` says."""

    size = int(_size)
    ca = os.environ.get("ECHO_CA")


@events.quitting.add_listener
def fail_if_nothing_was_sent(environment: Any, **_: Any) -> None:
    """Locust itself ends with 0 then: no request is no failed one."""
    if not isinstance(environment.runner, WorkerRunner) and not environment.stats.total.num_requests:
        logging.getLogger(__name__).error("no message was sent; the workers' logs say why")
        environment.process_exit_code = 1
