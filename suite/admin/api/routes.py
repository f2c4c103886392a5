"""The paths of the API."""

from __future__ import annotations

from typing import Final

from suite.admin.api import changing, openapi, reading, watching
from suite.admin.route import Route

_ENDPOINT: Final = "/api/v1/endpoints/{name}"

API: Final = (
    Route("GET", "/api/v1/status", reading.status),
    Route("GET", "/api/v1/endpoints", reading.endpoints),
    Route("GET", _ENDPOINT, reading.endpoint),
    Route("POST", f"{_ENDPOINT}/pause", changing.pause, changes=True),
    Route("POST", f"{_ENDPOINT}/resume", changing.resume, changes=True),
    Route("GET", "/api/v1/connections", reading.connections),
    Route("GET", f"{_ENDPOINT}/connections/{{number}}", reading.connection),
    Route("DELETE", f"{_ENDPOINT}/connections/{{number}}", changing.close, changes=True),
    Route("GET", "/api/v1/faults", reading.faults),
    Route("DELETE", "/api/v1/faults", changing.clear_all_faults, changes=True),
    Route("GET", f"{_ENDPOINT}/faults", reading.endpoint_faults),
    Route("POST", f"{_ENDPOINT}/faults", changing.add_faults, changes=True),
    Route("DELETE", f"{_ENDPOINT}/faults", changing.clear_faults, changes=True),
    Route("DELETE", f"{_ENDPOINT}/faults/{{id}}", changing.remove_fault, changes=True),
    Route("GET", "/api/v1/gallery", reading.gallery),
    Route("GET", "/api/v1/events", watching.stream),
    Route("GET", "/api/v1/events/recent", watching.recent),
    Route("POST", "/api/v1/reload", changing.reload, changes=True),
    Route("POST", "/api/v1/drain", changing.drain, changes=True),
    Route("GET", "/api/v1/openapi.json", openapi.openapi),
)
