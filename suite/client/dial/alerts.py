"""TLS alerts by number, as a client receives them."""

from __future__ import annotations

from typing import Final

from suite.config import faults
from suite.config.faults import HARMLESS_ALERTS
from suite.engine.tls import CLOSE_NOTIFY

#: The names of alerts by number; ``close_notify`` is an end, and has no name here.
ALERTS: Final = {number: name for name, number in faults.ALERTS.items() if number != CLOSE_NOTIFY}

#: Alerts that do not report an error.
HARMLESS: Final = {faults.ALERTS[name] for name in HARMLESS_ALERTS}

CERTIFICATE_REQUIRED: Final = faults.ALERTS["certificate_required"]
