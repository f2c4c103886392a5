"""Documents as the admin interface has them, for tests of how they are shown."""

from __future__ import annotations

import copy
from typing import Any, Final

COUNTS: Final[dict[str, Any]] = {
    "connections": {"open": 0, "accepted": 0, "ended": {}, "refused": {}},
    "bytes": {"received": 0, "sent": 0},
    "datagrams": {"received": 0, "answered": 0, "bytes_received": 0, "bytes_sent": 0, "unanswered": {}},
    "handshakes": {"completed": 0, "resumed": 0, "by": [], "failed": {}},
    "struck": {},
}

NO_FAULTS: Final[dict[str, Any]] = {"seed": 0, "requested": False, "replayed": False, "faults": []}


def endpoint(name: str, transport: str = "TCP", address: str = "127.0.0.1:1234", **changes: Any) -> Any:
    """The document of an endpoint."""
    return {
        "name": name,
        "transport": transport,
        "listen": "tcp:1234",
        "addresses": [address],
        "answer": "echo",
        "state": "serving",
        "proxied": False,
        "gallery": None,
        "limits": {"connections": 10000, "per_peer": None, "idle": 600.0, "allow": []},
        "certificate": None,
        "try": f"echo 'hola mundo...' | nc -N {address.replace(':', ' ')}",
        **copy.deepcopy(COUNTS),
        "faults": copy.deepcopy(NO_FAULTS),
        **changes,
    }


def status(**changes: Any) -> Any:
    """The document of a suite."""
    return {
        "version": "0.1.0",
        "pid": 4711,
        "started": "2026-11-27T01:00:00Z",
        "uptime": 11520.0,
        "state": "serving",
        "ready": True,
        "reasons": [],
        "config": "config.toml",
        "endpoints": 4,
        "leaving": 0,
        "paused": [],
        **copy.deepcopy(COUNTS),
        "not_served": [],
        "reloads": {"good": 0, "bad": 0, "last": None, "problem": None},
        "descriptors": {"open": 15, "limit": 524288},
        "reactor": {"name": "echo-engine", "timers": 4, "lag": {"p50": 0.0001, "p99": 0.0004, "max": 0.002}},
        "log": {"suppressed": 0, "lost": 0},
        "certificates": [],
        **changes,
    }


CERTIFICATE: Final = {
    "subject": "CN=localhost",
    "names": ["localhost", "127.0.0.1", "::1"],
    "not_before": "2026-11-26T01:00:00Z",
    "not_after": "2029-02-28T01:00:00Z",
    "days": 824,
}


def a_suite() -> tuple[Any, list[Any]]:
    """A suite with four transports that has seen some traffic."""
    endpoints = [
        endpoint("tcp"),
        endpoint("udp", "UDP"),
        endpoint("tls", "TLS", "127.0.0.1:4433", certificate=CERTIFICATE),
        endpoint("unix", "UNIX", "run/echo.sock"),
    ]
    endpoints[0]["connections"] = {
        "open": 3,
        "accepted": 1204,
        "ended": {"closed": 1190, "reset": 11},
        "refused": {"per-peer": 12, "denied": 3},
    }
    endpoints[0]["bytes"] = {"received": 123456789, "sent": 123456700}
    endpoints[0]["faults"] = {**NO_FAULTS, "seed": 7, "faults": [{"id": 1, "fault": "latency=200ms"}]}
    endpoints[1]["datagrams"] = {
        "received": 400,
        "answered": 398,
        "bytes_received": 25600,
        "bytes_sent": 25472,
        "unanswered": {"rate": 2},
    }
    endpoints[2]["handshakes"] = {
        "completed": 120,
        "resumed": 30,
        "by": [{"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "resumed": False, "count": 90}],
        "failed": {"unknown-ca": 4},
    }
    whole = status(
        connections=endpoints[0]["connections"],
        bytes=endpoints[0]["bytes"],
        datagrams=endpoints[1]["datagrams"],
        handshakes=endpoints[2]["handshakes"],
        struck={"latency": 401},
        reloads={
            "good": 2,
            "bad": 1,
            "last": "2026-11-27T01:02:03Z",
            "problem": "config.toml: tls.minimun: unknown key; did you mean minimum?",
        },
        certificates=[
            {"endpoint": "tls", **{key: CERTIFICATE[key] for key in ("subject", "not_after", "days")}}
        ],
    )
    return whole, endpoints


def refusal(**changes: Any) -> Any:
    """An event about a peer that was refused."""
    return {
        "id": 7,
        "time": "2026-11-27T12:03:04.500Z",
        "level": "info",
        "message": "refused",
        "endpoint": "tcp",
        "peer": "192.0.2.7:40000",
        "reason": "per-peer",
        **changes,
    }
