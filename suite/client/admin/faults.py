"""Requests of the control socket, made over the admin interface instead, with the same answers.

Rule: a request that cannot be followed changes nothing; so ids are looked up before the first is removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from suite.client.admin.interface import Interface, RefusedError, endpoint_path
from suite.errors import EXIT_FAILURE, UsageError

ALL = "/api/v1/faults"


def request_faults(interface: Interface, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the suite at *interface* answers to *request*, as its control socket would.

    :raises UnreachableError: it cannot be asked.
    """
    try:
        return {"ok": True, **_follow(interface, request)}
    except RefusedError as error:
        kind = "busy" if error.exit_code == EXIT_FAILURE else "request"
        return {"ok": False, "kind": kind, "error": error.detail}
    except _UnknownIdError as error:
        return {"ok": False, "kind": "request", "error": str(error)}


class _UnknownIdError(UsageError):
    """An id that no fault of the endpoint has."""


def _follow(interface: Interface, request: Mapping[str, Any]) -> Mapping[str, Any]:
    what, name = request["do"], request.get("endpoint")
    if name is None:
        found: dict[str, Any] = interface.ask(ALL, "GET" if what == "list" else "DELETE")
        with_faults = {
            each: faults
            for each, faults in found["endpoints"].items()
            if faults["faults"] or _special(faults)
        }
        return {"endpoints": with_faults}
    path = f"{endpoint_path(name)}/faults"
    if what == "add":
        faults = dict(interface.ask(path, "POST", {"faults": request["faults"]}))
        return {"ids": faults.pop("ids"), "endpoints": {name: faults}}
    if what == "remove":
        return {"endpoints": {name: _remove(interface, path, name, request["ids"])}}
    return {"endpoints": {name: interface.ask(path, "GET" if what == "list" else "DELETE")}}


def _special(faults: Mapping[str, Any]) -> bool:
    """Whether an endpoint has others than those that are listed."""
    return bool(faults["requested"] or faults["replayed"])


def _remove(interface: Interface, path: str, name: str, ids: Sequence[int]) -> Any:
    known = [each["id"] for each in interface.ask(path)["faults"]]
    for number in ids:
        if number not in known:
            expected = f"expected {' or '.join(map(str, known))}" if known else "it has none"
            raise _UnknownIdError(f"ids: {number} is not a fault of {name}; {expected}")
    left: Any = None
    for number in dict.fromkeys(ids):
        left = interface.ask(f"{path}/{number}", "DELETE")
    return left
