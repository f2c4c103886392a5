"""What answers requests that change something.

Rule: a request is read in full before anything changes, and what it has changed is in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import methodcaller
from typing import Any, Final

from twisted.logger import Logger

from suite.admin.api.asked import Query, charged, check_body, endpoint_named, whole_number
from suite.admin.api.documents import connection_document, endpoint_document, faults_document
from suite.admin.api.reading import all_faults, connection_named
from suite.admin.conversation import RefusedRequestError
from suite.admin.exchange import Call, Problem, Response, as_json
from suite.admin.faults import ReplayedError
from suite.admin.route import Site
from suite.errors import StoppingError, SuiteError
from suite.server.endpoint import CannotPauseError, RunningEndpoint
from suite.server.operations import Operations

log = Logger()

#: Over what a change has come, for the log.
DOOR: Final = "the admin interface"


def _bare(call: Call) -> None:
    """Check that *call* has neither a query nor a body.

    :raises Problem: it has.
    """
    Query(call)
    check_body(call)


def _listening(site: Site, call: Call) -> RunningEndpoint:
    """The endpoint that the path of *call* names.

    :raises Problem: there is none, or it does not listen any more.
    """
    name = call.parameters["name"]
    found = endpoint_named(site.suite, name)
    if site.suite.endpoints.get(name) is not found:
        raise Problem(409, f"{name} does not listen any more; its last connections are ending")
    return found


# Endpoints.


async def pause(site: Site, call: Call) -> Response:
    """``POST /api/v1/endpoints/{name}/pause``."""
    return await _switch(site, call, methodcaller("pause"))


async def resume(site: Site, call: Call) -> Response:
    """``POST /api/v1/endpoints/{name}/resume``."""
    return await _switch(site, call, methodcaller("resume"))


async def _switch(site: Site, call: Call, change: Callable[[RunningEndpoint], None]) -> Response:
    _bare(call)
    endpoint = _listening(site, call)
    try:
        change(endpoint)
    except CannotPauseError as error:
        raise Problem(409, str(error)) from None
    async with charged(site) as turns:
        return as_json(await endpoint_document(site.suite, site.faults, endpoint, turns))


async def close(site: Site, call: Call) -> Response:
    """``DELETE /api/v1/endpoints/{name}/connections/{number}``."""
    abort = Query(call, "abort").flag("abort")
    check_body(call)
    endpoint, connection = connection_named(site.suite, call)
    document = connection_document(endpoint, connection)
    if endpoint.guard is not None:
        endpoint.guard.close(connection, abort=abort)
    return as_json({**document, "state": "ending"})


# Faults.


def _change_faults(change: Callable[[str, Mapping[str, Any]], Mapping[str, Any]], **request: Any) -> Any:
    """What *change* answers to *request*.

    :raises Problem: it is refused, and nothing has changed.
    """
    with _refused():
        return change(DOOR, request)


@contextmanager
def _refused() -> Iterator[None]:
    """Turn the refusal of a request in the block into a `Problem`."""
    try:
        yield
    except ReplayedError as error:
        raise Problem(409, error.problem) from None
    except RefusedRequestError as error:
        raise Problem(400, error.problem) from None


async def add_faults(site: Site, call: Call) -> Response:
    """``POST /api/v1/endpoints/{name}/faults``."""
    Query(call)
    endpoint = _listening(site, call)
    request = check_body(call, "faults", "seed")
    answer = _change_faults(site.faults.add, endpoint=call.parameters["name"], **request)
    return as_json({"ids": answer["ids"], **faults_document(site.faults, endpoint)}, 201)


async def remove_fault(site: Site, call: Call) -> Response:
    """``DELETE /api/v1/endpoints/{name}/faults/{id}``."""
    _bare(call)
    endpoint = _listening(site, call)
    number = whole_number(call.parameters["id"], "fault")
    if number not in site.faults.known(endpoint).ids:
        raise Problem(404, f"{number} is not a fault of {call.parameters['name']}")
    _change_faults(site.faults.remove, endpoint=call.parameters["name"], ids=[number])
    return as_json(faults_document(site.faults, endpoint))


async def clear_faults(site: Site, call: Call) -> Response:
    """``DELETE /api/v1/endpoints/{name}/faults``."""
    _bare(call)
    endpoint = _listening(site, call)
    _change_faults(site.faults.clear, endpoint=call.parameters["name"])
    return as_json(faults_document(site.faults, endpoint))


async def clear_all_faults(site: Site, call: Call) -> Response:
    """``DELETE /api/v1/faults``."""
    _bare(call)
    async with charged(site) as turns:
        with _refused():
            await site.faults.clear_all(DOOR, turns)
        return await all_faults(site, turns)


# The suite as a whole.


def _operations(site: Site) -> Operations:
    """What can be done with the suite.

    :raises Problem: nothing: another program has started it.
    """
    operations = site.suite.operations
    if operations is None:
        raise Problem(501, "another program runs this suite, and alone reloads and ends it")
    return operations


async def reload(site: Site, call: Call) -> Response:
    """``POST /api/v1/reload``: answered once it has taken effect, or has not."""
    _bare(call)
    try:
        done = await _operations(site).reload()
    except StoppingError as error:
        raise Problem(409, f"not reloaded: {error}", errors=[str(error)]) from None
    except SuiteError as error:
        lines = str(error).splitlines()
        more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
        problem = f"not reloaded: {lines[0]}{more}; the previous configuration is still served"
        raise Problem(409, problem, errors=lines) from None
    return as_json({"reloaded": done})


async def drain(site: Site, call: Call) -> Response:
    """``POST /api/v1/drain``: the suite ends once echoes in progress have."""
    _bare(call)
    _operations(site).drain()
    log.info("draining: asked for over {door}", door=DOOR)
    return as_json({"state": "draining"}, 202)
