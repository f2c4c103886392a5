"""The paths of the API."""

from __future__ import annotations

from typing import Final

from suite.admin.api import reading
from suite.admin.route import Route

_ENDPOINT: Final = "/api/v1/endpoints/{name}"

API: Final = (
    Route("GET", "/api/v1/status", reading.status),
    Route("GET", "/api/v1/endpoints", reading.endpoints),
    Route("GET", _ENDPOINT, reading.endpoint),
    Route("GET", f"{_ENDPOINT}/faults", reading.endpoint_faults),
    Route("GET", f"{_ENDPOINT}/connections/{{number}}", reading.connection),
    Route("GET", "/api/v1/connections", reading.connections),
    Route("GET", "/api/v1/faults", reading.faults),
    Route("GET", "/api/v1/gallery", reading.gallery),
)
