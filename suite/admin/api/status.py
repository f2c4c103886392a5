"""The status of the suite as a whole."""

from __future__ import annotations

import heapq
import os
import time
from typing import Final

from cryptography.x509 import Certificate

from suite import __version__
from suite.admin.api.documents import Document, certificate_document, counts_document, instant
from suite.admin.health import leaving, reasons_against, state_of
from suite.admin.route import Site
from suite.admin.usage import descriptors, reactor_name
from suite.server.counts import Counts, counts_in_turns
from suite.server.pauses import Turns
from suite.server.service import EchoSuite

#: Certificates that are shown: those that end first.
MOST_CERTIFICATES: Final = 100


async def status_document(site: Site, turns: Turns) -> Document:
    """What is known of the suite of *site* as a whole."""
    suite = site.suite
    reasons = await reasons_against(suite, turns)
    counts = Counts()
    async for endpoint in turns.between(suite.every_endpoint):
        counts += await counts_in_turns(endpoint, turns)
    config, reloads, lag = suite.plan.config, suite.reloads, site.lag.recent
    return {
        "version": __version__,
        "pid": os.getpid(),
        "started": instant(suite.started_at),
        "uptime": round(time.monotonic() - suite.began, 3),
        "state": state_of(suite),
        "ready": not reasons,
        "reasons": reasons,
        "config": str(config.directory / config.file.name),
        "endpoints": len(suite.endpoints),
        "leaving": leaving(suite),
        "paused": sorted(name for name, endpoint in suite.endpoints.items() if endpoint.paused),
        "not_served": [{"endpoint": each.endpoint, "problem": str(each)} for each in suite.not_served],
        **counts_document(counts),
        "reloads": {
            "good": reloads.good,
            "bad": reloads.bad,
            "last": instant(reloads.last) if reloads.last is not None else None,
            "problem": reloads.problem or None,
        },
        "descriptors": descriptors()._asdict(),
        "reactor": {
            "name": reactor_name(suite.reactor),
            "timers": len(suite.reactor.getDelayedCalls()),
            "lag": {name: round(value, 6) for name, value in lag._asdict().items()} if lag else None,
        },
        "log": {
            "suppressed": suite.log.suppressed if suite.log is not None else None,
            "lost": suite.log.lost if suite.log is not None else None,
        },
        "certificates": await _certificates(suite, turns),
    }


async def _certificates(suite: EchoSuite, turns: Turns) -> list[Document]:
    """The certificates of the endpoints that listen; those that the gallery shows are wrong on purpose."""
    found: list[tuple[str, Certificate]] = []
    async for name, endpoint in turns.between([*suite.endpoints.items()]):
        identities = suite.plan.credentials.identities(endpoint.description)
        found += [(name, identity.certificate) for identity in identities]
    await turns.one_if_due()
    shown = []
    first = heapq.nsmallest(MOST_CERTIFICATES, found, key=lambda pair: pair[1].not_valid_after_utc)
    async for name, certificate in turns.between(first):
        document = certificate_document(certificate)
        shown.append({"endpoint": name, **{key: document[key] for key in ("subject", "not_after", "days")}})
    return shown
