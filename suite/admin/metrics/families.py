"""Every metric: the table that a scrape follows, docs/metrics.md shows, and the tests hold deploy/ to."""

from __future__ import annotations

from typing import Final

from suite.admin.metrics.family import Family
from suite.admin.metrics.of_endpoints import ENDPOINTS
from suite.admin.metrics.of_suite import SUITE

#: All of them, in the order in which they are written.
FAMILIES: Final[tuple[Family, ...]] = (*SUITE, *ENDPOINTS)
